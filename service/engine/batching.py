"""How requests for a model lie in a batch: which may run together, how their tensors become one inference's,
and how its outputs become theirs again.

Nothing here knows of threads or clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from exports.card import StateSpec, TensorSpec
from service.engine.clock import Timer
from service.engine.errors import InvalidTensorsError
from service.engine.store import Model, Tensor
from service.engine.tuning import Pace

Answer = dict[str, Tensor] | Exception

LENGTHS = "lengths"  # the input that says how much of each row counts
FRAMES = "frames"  # the output, and the dimension of others, that count a row's frames

DEFAULT_PRIORITY = 2
LOWEST_PRIORITY = 3  # 1 is the highest


class Request:
    """One inference that somebody waits for.

    Args:
        layout: of the model that is asked.
        inputs: tensors by name, batch first. States left out start at zero.
        outputs: names of outputs or of states' outputs.
        done: is given the answer: the outputs by name, or why there are none.
        deadline: when it must have been answered, in the engine's time. It does not begin to run when that is
            past or too near, as far as can be told; what has begun is finished, though it be late.
        priority: 1 goes before 2 before 3.

    Attributes:
        rows: the size of its batch.
        nbytes: the size of its inputs.
        size: how long its rows are along the dimension that may be padded; 0 where there is none.
        key: requests with equal keys may run together.
        admitted, started, ended: when it was queued, when a lane took its first row, when it was answered.

    Raises:
        InvalidTensorsError: tensors that are not the model's.
    """

    __slots__ = (
        "admitted",
        "answered",
        "deadline",
        "done",
        "ended",
        "inputs",
        "key",
        "layout",
        "nbytes",
        "number",
        "outputs",
        "parts",
        "priority",
        "rows",
        "seconds",
        "size",
        "started",
        "taken",
        "timer",
    )

    def __init__(
        self,
        layout: Layout,
        inputs: Mapping[str, Tensor],
        outputs: Sequence[str],
        done: Callable[[Answer], object],
        deadline: float | None = None,
        priority: int = DEFAULT_PRIORITY,
    ) -> None:
        self.layout = layout
        self.inputs = inputs
        self.outputs = tuple(outputs)
        self.done = done
        self.deadline = deadline
        self.priority = priority
        self.rows, self.size, self.key = layout.measure(inputs, self.outputs)
        self.seconds = self.rows * layout.pace(self.size).seconds
        self.nbytes = sum([tensor.nbytes for tensor in inputs.values()])
        self.admitted = 0.0
        self.started: float | None = None
        self.ended: float | None = None
        # The queue's and the scheduler's:
        self.number = 0  # in the order of arrival
        self.taken = 0  # rows given to lanes
        self.answered = 0  # rows
        self.parts: dict[int, dict[str, Tensor]] = {}  # of an answer in several pieces, by first row
        self.timer: Timer | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows `start` up to, without, `stop` of a request: all of them, or as many as run at once."""

    request: Request
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """How many."""
        return self.stop - self.start

    @property
    def whole(self) -> bool:
        """Whether these are all the rows."""
        return self.rows == self.request.rows

    def take(self, tensor: Tensor) -> Tensor:
        """These rows of one of the request's tensors."""
        return tensor if self.whole else tensor[self.start : self.stop]


class Layout:
    """How the requests for a model lie in a batch.

    Their rows are stacked. An input whose second dimension is dynamic is padded there with zeros, if the
    model has `lengths` to tell what counts and its card does not rule padding out.

    Args:
        model: the model.
        max_rows: never run more rows together, however much faster that would be.

    Attributes:
        model: as given.
        ragged: the name of the input that may be padded, None without one.
    """

    def __init__(self, model: Model, max_rows: int) -> None:
        card = model.card
        self.model = model
        self._max_rows = max_rows
        self._paces = {pace.size.bit_length(): pace for pace in model.paces}
        dynamic = [spec for spec in card.inputs if any(isinstance(size, str) for size in spec.shape[1:])]
        padded = (
            len(dynamic) == 1
            and len(dynamic[0].shape) == 2
            and any(spec.name == LENGTHS for spec in card.inputs)
            and card.exactness.padded != "impossible"
        )
        self.ragged = dynamic[0].name if padded else None
        outputs: list[TensorSpec | StateSpec] = [*card.outputs]
        along = {spec.name: spec.shape[1] for spec in outputs if padded and len(spec.shape) > 1}
        # Outputs as long as the padded input, or as there are frames in a row, are cut to what the request
        # would have got alone.
        self._trimmed = {name for name, size in along.items() if size == dynamic[0].shape[1]}
        counted = any(spec.name == FRAMES for spec in card.outputs)
        self._counted = {name for name, size in along.items() if size == FRAMES and counted}
        self._long = self._trimmed | self._counted
        self._inputs = {spec.name: _Expected(spec.dtype, spec.shape) for spec in card.inputs}
        self._states = {spec.name: _Expected(spec.dtype, spec.shape) for spec in card.states}
        self._known = {**self._inputs, **self._states}
        self._names = {spec.name for spec in outputs} | {state.output for state in card.states}

    def pace(self, size: int) -> Pace:
        """How requests of this size run best."""
        wanted = size.bit_length()
        pace = self._paces.get(wanted)
        if pace is None:
            nearest = min(self._paces, key=lambda bits: abs(bits - wanted))
            pace = self._paces[wanted] = self._paces[nearest].at(size)
        return pace

    def learn(self, size: int, seconds: float) -> None:
        """A batch of this size took so many seconds a row."""
        pace = self.pace(size)
        self._paces[size.bit_length()] = pace.learn(seconds)

    def relent(self, size: int) -> None:
        """Come back a little from what was learned to what was measured before, if that was faster."""
        bits = size.bit_length()
        measured = min(self.model.paces, key=lambda pace: abs(pace.size.bit_length() - bits)).at(size)
        self.learn(size, min(measured.seconds, self.pace(size).seconds))

    def rows(self, size: int) -> int:
        """How many rows of this size run together at most."""
        return min(self.pace(size).rows, self._max_rows)

    def seconds(self, rows: int, size: int) -> float:
        """How long a request takes, or the full batch that it may be run in."""
        pace = self.pace(size)
        return max(rows, min(pace.rows, self._max_rows)) * pace.seconds

    def measure(
        self, inputs: Mapping[str, Tensor], outputs: tuple[str, ...]
    ) -> tuple[int, int, tuple[Hashable, ...]]:
        """A request's rows, size and key; see `Request`.

        Raises:
            InvalidTensorsError
        """
        card = self.model.card
        rows = -1
        size = 0
        key: list[Hashable] = [self]
        for name, expected in self._inputs.items():
            tensor = inputs.get(name)
            if tensor is None:
                raise InvalidTensorsError(f"input {name!r} is missing; {card.name} needs {expected}")
            expected.check(name, tensor)
            shape = tensor.shape
            if rows < 0:
                rows = shape[0]
            if name == self.ragged:
                size = shape[1]
                # Sizes of equal bit length: padded to the longest of them, no row is more than half zeros.
                key.append(size.bit_length())
            else:
                key.append(shape[1:])
        for name, tensor in inputs.items():
            if name not in self._inputs:
                if name not in self._states:
                    raise InvalidTensorsError(
                        f"there is no input {name!r}; {card.name} has {', '.join(self._known)}"
                    )
                self._states[name].check(name, tensor)
            if tensor.shape[0] != rows:
                raise InvalidTensorsError(
                    f"input {name!r} has {tensor.shape[0]} rows; expected {rows}, as "
                    f"{next(iter(self._inputs))!r} has"
                )
        if rows < 1:
            raise InvalidTensorsError("the inputs have no rows; expected at least one")
        if self.ragged is not None:
            self._check_lengths(inputs[LENGTHS], size)
        for name in outputs:
            if name not in self._names:
                raise InvalidTensorsError(
                    f"there is no output {name!r}; {card.name} has {', '.join(sorted(self._names))}"
                )
        # What is as long as the input costs time and room, so it is computed only where it is asked for.
        key.append(frozenset(self._long.intersection(outputs)))
        return rows, size, tuple(key)

    def _check_lengths(self, lengths: Tensor, size: int) -> None:
        values = lengths.tolist()  # mostly of one or a few, for which numpy's min and max are slow
        low, high = min(values), max(values)
        if low < 0 or high > size:
            raise InvalidTensorsError(
                f"{LENGTHS} has {low if low < 0 else high}; expected 0 to {size}, the size of "
                f"{self.ragged!r} in its second dimension"
            )

    def fetches(self, pieces: Sequence[Piece]) -> list[str]:
        """The names of the outputs that an inference for these has to give."""
        if len(pieces) == 1 and not self._counted:
            return list(pieces[0].request.outputs)
        names = dict.fromkeys(name for piece in pieces for name in piece.request.outputs)
        if not self._counted.isdisjoint(names):
            names[FRAMES] = None
        return list(names)

    def stack(self, pieces: Sequence[Piece]) -> Mapping[str, Tensor]:
        """The inputs of requests with equal keys as those of one."""
        first = pieces[0]
        if len(pieces) == 1:
            inputs = first.request.inputs
            return inputs if first.whole else {name: first.take(tensor) for name, tensor in inputs.items()}
        stacked: dict[str, Tensor] = {}
        for name in self._inputs:
            tensors = [piece.take(piece.request.inputs[name]) for piece in pieces]
            if name == self.ragged and len({piece.request.size for piece in pieces}) > 1:
                stacked[name] = _pad(tensors)
            else:
                stacked[name] = np.concatenate(tensors)
        for name, expected in self._states.items():
            if any(name in piece.request.inputs for piece in pieces):
                stacked[name] = np.concatenate(
                    [
                        piece.take(piece.request.inputs[name])
                        if name in piece.request.inputs
                        else expected.zeros(piece.rows)
                        for piece in pieces
                    ]
                )
        return stacked

    def split(self, pieces: Sequence[Piece], outputs: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Each piece's own rows of the outputs, as views: one that is kept keeps the whole batch's."""
        split = []
        start = 0
        for piece in pieces:
            end = start + piece.rows
            answer = {}
            for name in piece.request.outputs:
                tensor = outputs[name][start:end]
                if name in self._trimmed:
                    tensor = tensor[:, : piece.request.size]
                elif name in self._counted:
                    tensor = tensor[:, : outputs[FRAMES][start:end].max()]
                answer[name] = tensor
            split.append(answer)
            start = end
        return split

    def join(self, parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The answer to a request from those to its pieces, in the order of their rows."""
        return {
            name: (_pad if name in self._counted else np.concatenate)([part[name] for part in parts])
            for name in parts[0]
        }


class _Expected:
    """What the card says of a tensor."""

    def __init__(self, dtype: str, shape: Sequence[int | str]) -> None:
        self.dtype = np.dtype(dtype)
        self.shape = shape
        self._row = tuple(shape[1:])
        self._fixed = [(axis, size) for axis, size in enumerate(shape) if isinstance(size, int)]

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}".replace("'", "")

    def check(self, name: str, tensor: Tensor) -> None:
        """
        Raises:
            InvalidTensorsError: it is another.
        """
        if tensor.dtype != self.dtype or not self._fits(tensor.shape):
            raise InvalidTensorsError(
                f"input {name!r} is {tensor.dtype} {list(tensor.shape)}; expected {self}"
            )

    def _fits(self, shape: tuple[int, ...]) -> bool:
        # Most often all but the batch is fixed, and one comparison will do.
        return len(shape) == len(self.shape) and (
            shape[1:] == self._row or all(shape[axis] == size for axis, size in self._fixed)
        )

    def zeros(self, rows: int) -> Tensor:
        """[rows, ...]; only the first dimension of a state is dynamic."""
        return np.zeros((rows, *(int(size) for size in self.shape[1:])), self.dtype)


def _pad(tensors: Sequence[Tensor]) -> Tensor:
    """Stack tensors [rows, size, ...] of different sizes."""
    longest = max(tensor.shape[1] for tensor in tensors)
    rows = sum(len(tensor) for tensor in tensors)
    padded = np.zeros((rows, longest, *tensors[0].shape[2:]), tensors[0].dtype)
    start = 0
    for tensor in tensors:
        padded[start : start + len(tensor), : tensor.shape[1]] = tensor
        start += len(tensor)
    return padded
