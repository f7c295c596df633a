"""An inference request: JSON, JSON with bytes behind it, or bytes alone -> tensors by name.

A request is checked against the model's signature as it is read, so that nothing is made of what does not
fit. It may be hostile; whatever it is, it ends in a request or in `InvalidRequestError`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.engine import Tensor
from service.engine.batching import LENGTHS
from service.http.words import describe, quote
from service.v2.errors import InvalidRequestError
from service.v2.message import Message, parameters_of
from service.v2.parameters import boolean
from service.v2.signature import Signature, TensorType
from service.v2.tensors import from_bytes, from_json

MAX_ELEMENTS = 2**20  # of a tensor: 1337 images, or two minutes of speech, in one piece
_SMALL = 2**12  # bytes of JSON that may be kept for the tensors behind it

_NOT_OFFERED = ("shared_memory_region", "classification")


@dataclass(frozen=True, slots=True)
class InferRequest:
    """What a model is asked.

    Attributes:
        id: the client's name for the request, if it gave one.
        inputs: tensors by name, batch first; all that the model needs. They may be views of the body.
        outputs: the names of what is asked for, in the order of the answer.
        binary: those of them that are to come as bytes.
    """

    id: str | None
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    binary: frozenset[str]


def read(message: Message, signature: Signature) -> InferRequest:
    """Read the tensors of a request, and what it asks for.

    Args:
        message: what was sent.
        signature: of the model that is asked.

    Raises:
        InvalidRequestError
    """
    reader = _Reader(message.body, signature)
    if message.document is None:
        outputs = signature.default_outputs
        return InferRequest(None, reader.read_body(), outputs, frozenset(outputs))
    inputs = reader.read_inputs(_list(message.document, "inputs"), message.start)
    asked = reader.read_outputs(_list(message.document, "outputs"), message.parameters.binary_data_output)
    binary = frozenset(name for name, as_bytes in asked.items() if as_bytes)
    return InferRequest(message.id, inputs, tuple(asked), binary)


class _Reader:
    """Reads one request.

    Args:
        body: the whole of it.
        signature: of the model that is asked.
    """

    def __init__(self, body: bytes, signature: Signature) -> None:
        self._body = body
        self._signature = signature
        self._sizes: dict[str, int] = {}  # of the dynamic dimensions, as far as they are known

    def read_body(self) -> dict[str, Tensor]:
        """The whole body is the one input that the model needs, of a batch of one."""
        needed = [type_ for type_ in self._signature.inputs.values() if not type_.optional]
        dynamic = [size for type_ in needed for size in type_.shape[1:] if isinstance(size, str)]
        if len(needed) != 1 or len(dynamic) > 1:
            raise InvalidRequestError(
                "a body without JSON is for models that need one input, of one dynamic dimension besides the "
                f"batch; {self._signature.card.name} needs {_join(needed)}"
            )
        (type_,) = needed
        fixed = math.prod(size for size in type_.shape[1:] if isinstance(size, int))
        row = fixed * type_.dtype.itemsize
        length, rest = divmod(len(self._body), row) if dynamic else (1, len(self._body) - row)
        if rest or not length:
            multiple = "a multiple of " if dynamic else ""
            raise InvalidRequestError(
                f"the body has {len(self._body)} bytes; expected {multiple}{row}: the tensor {type_} with a "
                "batch of 1"
            )
        shape = [1, *(length if isinstance(size, str) else size for size in type_.shape[1:])]
        self._check_shape(type_, shape)
        inputs = {type_.name: from_bytes(self._body, 0, len(self._body), type_, shape)}
        self._complete(inputs)
        return inputs

    def read_inputs(self, items: list[Any], start: int | None) -> dict[str, Tensor]:
        """The inputs, from JSON or from the bytes that begin at `start`, if there are any."""
        inputs: dict[str, Tensor] = {}
        offset = start
        for item in items:
            type_, parameters = self._find(item, "input", self._signature.inputs, inputs)
            if item.get("datatype") != type_.datatype:
                raise InvalidRequestError(
                    f"input {type_.name!r} has the datatype {_sent(item, 'datatype')}; expected "
                    f"{type_.datatype}"
                )
            shape = item.get("shape")
            self._check_shape(type_, shape)
            size = parameters.get("binary_data_size")
            if size is None:
                if "data" not in item:
                    raise InvalidRequestError(
                        f"input {type_.name!r} has neither data nor the parameter binary_data_size"
                    )
                inputs[type_.name] = from_json(item["data"], type_, shape)
                continue
            if "data" in item:
                raise InvalidRequestError(
                    f"input {type_.name!r} has both data and the parameter binary_data_size; expected one"
                )
            if offset is None:
                raise InvalidRequestError(
                    f"input {type_.name!r} has the parameter binary_data_size, but the request has no header "
                    "Inference-Header-Content-Length"
                )
            if type(size) is not int or not 0 <= size <= len(self._body) - offset:
                raise InvalidRequestError(
                    f"input {type_.name!r}: binary_data_size is {describe(size)}; the body has "
                    f"{len(self._body) - offset} bytes left for it"
                )
            tensor = from_bytes(self._body, offset, size, type_, shape)
            # A view keeps the body, with JSON that may be much larger than the tensor.
            inputs[type_.name] = tensor.copy() if start is not None and start > _SMALL else tensor
            offset += size
        if offset is not None and offset < len(self._body):
            raise InvalidRequestError(
                f"the body has {len(self._body)} bytes; its JSON and its tensors' binary_data_size make "
                f"{offset}"
            )
        self._complete(inputs)
        return inputs

    def _find(
        self, item: Any, kind: str, known: dict[str, TensorType], before: Any
    ) -> tuple[TensorType, dict[str, Any]]:
        """The type of the tensor that an entry of the request names, and the entry's parameters."""
        if not isinstance(item, dict):
            raise InvalidRequestError(f"an entry of {kind}s is {describe(item)}; expected an object")
        name = item.get("name")
        if not isinstance(name, str):
            raise InvalidRequestError(f"an {kind} has the name {_sent(item, 'name')}; expected a string")
        type_ = known.get(name)
        if type_ is None:
            raise InvalidRequestError(
                f"there is no {kind} {quote(name)}; {self._signature.card.name} has {_join(known.values())}"
            )
        if name in before:
            raise InvalidRequestError(f"{kind} {name!r} is there twice")
        parameters = parameters_of(item, f"{kind} {name!r}")
        for refused in _NOT_OFFERED:
            if refused in parameters:
                raise InvalidRequestError(f"{kind} {name!r}: this server does not offer {refused}")
        return type_, parameters

    def _check_shape(self, type_: TensorType, shape: Any) -> None:
        """Raise if a tensor of this shape does not fit the model, or those that came before it."""
        fits = isinstance(shape, list) and len(shape) == len(type_.shape)
        if fits:
            for size, expected in zip(shape, type_.shape, strict=True):
                if type(size) is not int or size < 1:
                    fits = False
                elif isinstance(expected, int):
                    fits = fits and size == expected
                elif self._sizes.setdefault(expected, size) != size:
                    raise InvalidRequestError(
                        f"input {type_.name!r} has the shape {_show(shape)}: its {expected} is {size}; "
                        f"expected {self._sizes[expected]}, as in the inputs before it"
                    )
        if not fits:
            raise InvalidRequestError(
                f"input {type_.name!r} has the shape {_show(shape)}; expected {type_.dims}"
                ", where -1 is any size from 1 on" * (-1 in type_.dims)
            )
        if math.prod(shape) > MAX_ELEMENTS:
            raise InvalidRequestError(
                f"input {type_.name!r} has the shape {shape}; expected at most {MAX_ELEMENTS} elements"
            )

    def _complete(self, inputs: dict[str, Tensor]) -> None:
        """Fill in lengths that were left out; raise if another input is missing. Lengths that are given the
        engine checks.
        """
        for name, type_ in self._signature.inputs.items():
            if name not in inputs and not type_.optional:
                has = ", ".join(map(repr, inputs)) or "none"
                raise InvalidRequestError(f"input {type_} is missing; the request has {has}")
        counted = self._signature.counted
        if counted is not None and LENGTHS not in inputs:
            rows, size = inputs[counted.name].shape[:2]
            inputs[LENGTHS] = np.full(rows, size, self._signature.inputs[LENGTHS].dtype)

    def read_outputs(self, items: list[Any], binary_by_default: bool) -> dict[str, bool]:
        """The names of what is asked for, and whether it is to come as bytes."""
        asked: dict[str, bool] = {}
        for item in items:
            type_, parameters = self._find(item, "output", self._signature.outputs, asked)
            asked[type_.name] = boolean(parameters, "binary_data", binary_by_default)
        return asked or dict.fromkeys(self._signature.default_outputs, binary_by_default)


def _list(document: dict[str, Any], name: str) -> list[Any]:
    value = document.get(name)
    if not (value is None or isinstance(value, list)):
        raise InvalidRequestError(f"{name} is {describe(value)}; expected a list")
    return value or []


def _sent(item: dict[str, Any], name: str) -> str:
    value = item.get(name)
    return quote(value) if isinstance(value, str) else describe(value)


def _show(shape: Any) -> str:
    if not isinstance(shape, list):
        return describe(shape)
    sizes = [str(size) if type(size) is int else describe(size) for size in shape[:8]]
    return f"[{', '.join(sizes)}{', ...' * (len(shape) > 8)}]"


def _join(types: Iterable[TensorType]) -> str:
    return ", ".join(map(str, types))
