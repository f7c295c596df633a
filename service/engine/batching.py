"""Which requests run together, and how several become one inference and its outputs theirs again.

Nothing here knows of threads or clocks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np

from service.engine.store import Model, Tensor

Answer = dict[str, Tensor] | Exception


class InvalidTensorsError(ValueError):
    """Inputs that do not make rows; the message says which, and what was expected."""


class Request:
    """One inference that somebody waits for.

    Args:
        layout: of the model that is asked.
        inputs: tensors by name, batch first.
        outputs: names of what is asked for.
        done: is given the answer: the outputs by name, or why there are none.

    Attributes:
        rows: the size of its batch.
        size: how long its rows are along the dimension that may be padded; 0 where there is none.
        key: requests with equal keys may run together.

    Raises:
        InvalidTensorsError: the inputs differ in their number of rows.
    """

    __slots__ = ("done", "inputs", "key", "layout", "number", "outputs", "rows", "size")

    def __init__(
        self,
        layout: Layout,
        inputs: Mapping[str, Tensor],
        outputs: Sequence[str],
        done: Callable[[Answer], object],
    ) -> None:
        self.layout = layout
        self.inputs = inputs
        self.outputs = tuple(outputs)
        self.done = done
        self.number = 0
        self.size = 0
        rows = -1
        parts: list[Hashable] = [layout, self.outputs]
        for name, tensor in inputs.items():
            shape = tensor.shape
            if not shape or (shape[0] != rows and rows >= 0):
                raise InvalidTensorsError(
                    f"input {name!r} has the shape {list(shape)}; expected the same number of rows as "
                    f"{next(iter(inputs))!r} has, in its first dimension"
                )
            rows = shape[0]
            if name == layout.ragged and len(shape) == 2:
                self.size = shape[1]
                # Sizes of equal bit length: padded to the longest of them, no row is more than half zeros.
                parts += (name, tensor.dtype, self.size.bit_length())
            else:
                parts += (name, tensor.dtype, shape[1:])
        if rows < 0:
            raise InvalidTensorsError("there are no inputs; expected tensors with the batch first")
        self.rows: int = rows
        self.key = tuple(parts)


class Layout:
    """How the requests for a model lie in a batch.

    Their rows are stacked. An input whose second dimension is dynamic is padded there with zeros, if the
    model has `lengths` to tell what counts and its card does not rule padding out.

    Attributes:
        model: the model.
        ragged: the name of the input that may be padded, None without one.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        card = model.card
        dynamic = [spec for spec in card.inputs if any(isinstance(size, str) for size in spec.shape[1:])]
        padded = (
            len(dynamic) == 1
            and len(dynamic[0].shape) == 2
            and any(spec.name == "lengths" for spec in card.inputs)
            and card.exactness.padded != "impossible"
        )
        self.ragged = dynamic[0].name if padded else None
        # Outputs as long as the padded input: they are cut to what the request would have got alone.
        self._trimmed = {
            spec.name for spec in card.outputs if padded and spec.shape[1:2] == dynamic[0].shape[1:]
        }

    def stack(self, requests: Sequence[Request]) -> Mapping[str, Tensor]:
        """The inputs of requests with equal keys as those of one."""
        if len(requests) == 1:
            return requests[0].inputs
        stacked = {}
        for name in requests[0].inputs:
            tensors = [request.inputs[name] for request in requests]
            if name == self.ragged and len({request.size for request in requests}) > 1:
                stacked[name] = _pad(tensors)
            else:
                stacked[name] = np.concatenate(tensors)
        return stacked

    def split(self, requests: Sequence[Request], outputs: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """Each request's own rows of the outputs, as views: one that is kept keeps the whole batch's."""
        if len(requests) == 1:
            return [outputs]
        split = []
        start = 0
        for request in requests:
            end = start + request.rows
            split.append(
                {
                    name: tensor[start:end, : request.size] if name in self._trimmed else tensor[start:end]
                    for name, tensor in outputs.items()
                }
            )
            start = end
        return split


def _pad(tensors: Sequence[Tensor]) -> Tensor:
    """Stack [rows, size] tensors of different sizes."""
    longest = max(tensor.shape[1] for tensor in tensors)
    padded = np.zeros((sum(len(tensor) for tensor in tensors), longest), tensors[0].dtype)
    start = 0
    for tensor in tensors:
        padded[start : start + len(tensor), : tensor.shape[1]] = tensor
        start += len(tensor)
    return padded


class Queue:
    """The requests that wait.

    Args:
        max_rows: how many rows may run together; a request of more runs alone.
    """

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._groups: dict[Hashable, OrderedDict[int, Request]] = {}
        self._pushed = 0

    def push(self, request: Request) -> None:
        """Add a request, as the youngest."""
        self._pushed += 1
        request.number = self._pushed
        group = self._groups.get(request.key)
        if group is None:
            group = self._groups[request.key] = OrderedDict()
        group[request.number] = request

    def remove(self, request: Request) -> None:
        """Take a request out again, if it still waits."""
        group = self._groups.get(request.key)
        if group is not None and group.pop(request.number, None) is not None and not group:
            del self._groups[request.key]

    def take(self) -> list[Request]:
        """What is to run next, oldest first: the oldest request of all, and the next oldest that may run with
        it, as many as fit. Nothing if none waits.
        """
        if not self._groups:
            return []
        key, group = min(self._groups.items(), key=lambda item: next(iter(item[1])))
        taken: list[Request] = []
        rows = 0
        for request in group.values():
            rows += request.rows
            if taken and rows > self._max_rows:
                break
            taken.append(request)
        for request in taken:
            del group[request.number]
        if not group:
            del self._groups[key]
        return taken

    def clear(self) -> list[Request]:
        """Take out all that waits."""
        waiting = [request for group in self._groups.values() for request in group.values()]
        self._groups.clear()
        return waiting
