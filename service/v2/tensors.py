"""The elements of one tensor: out of JSON, and out of bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from service.engine import Tensor
from service.http.words import describe
from service.v2.errors import InvalidRequestError
from service.v2.signature import TensorType


def from_json(data: Any, type_: TensorType, shape: Sequence[int]) -> Tensor:
    """An input's `data`: its elements in row-major order, or lists of them nested as the shape says.

    Raises:
        InvalidRequestError: there are more or fewer elements, or others than the datatype's.
    """
    elements = _flatten(data, type_, shape)
    floating = type_.dtype.kind == "f"
    if not set(map(type, elements)) <= ({int, float} if floating else {int}):
        index = next(
            i for i, e in enumerate(elements) if type(e) is not int and not (floating and type(e) is float)
        )
        raise _wrong(type_, shape, index, elements[index])
    try:
        with np.errstate(over="ignore"):  # found below
            tensor = np.fromiter(elements, type_.dtype, len(elements))
    except OverflowError:
        limits = np.iinfo(type_.dtype)
        index = next(i for i, e in enumerate(elements) if not limits.min <= e <= limits.max)
        raise _wrong(type_, shape, index, elements[index]) from None
    if floating and not np.isfinite(tensor).all():
        index = int(np.isfinite(tensor).argmin())
        raise _wrong(type_, shape, index, elements[index])
    return tensor.reshape(shape)


def _flatten(data: Any, type_: TensorType, shape: Sequence[int]) -> list[Any]:
    count = math.prod(shape)
    if not isinstance(data, list):
        raise InvalidRequestError(
            f"input {type_.name!r}: data is {describe(data)}; expected a list of {count} elements"
        )
    if len(shape) > 1 and data and isinstance(data[0], list):
        level: list[Any] = [data]
        for depth, size in enumerate(shape):
            for part in level:
                if not isinstance(part, list) or len(part) != size:
                    found = f"a list of {len(part)}" if isinstance(part, list) else describe(part)
                    raise InvalidRequestError(
                        f"input {type_.name!r}: data holds {found} where its dimension {depth} is; expected "
                        f"lists nested as the shape {[*shape]} says, or a flat list of {count} elements"
                    )
            level = [*chain.from_iterable(level)]
        return level
    if len(data) != count:
        raise InvalidRequestError(
            f"input {type_.name!r}: data has {len(data)} elements; the shape {[*shape]} has {count}"
        )
    return data


def _wrong(type_: TensorType, shape: Sequence[int], index: int, element: Any) -> InvalidRequestError:
    position = [int(i) for i in np.unravel_index(index, shape)]
    if type_.dtype.kind == "f":
        expected = f"a finite number in the range of {type_.datatype}"
    else:
        limits = np.iinfo(type_.dtype)
        expected = f"an integer from {limits.min} to {limits.max}"
    return InvalidRequestError(
        f"input {type_.name!r}: element {position} is {describe(element)}; expected {expected}"
    )


def from_bytes(data: bytes, start: int, size: int, type_: TensorType, shape: Sequence[int]) -> Tensor:
    """An input's bytes, little-endian and row-major, as a view of `data` where that is aligned.

    Raises:
        InvalidRequestError: there are more or fewer bytes, or elements that are not finite.
    """
    count = math.prod(shape)
    if size != count * type_.dtype.itemsize:
        raise InvalidRequestError(
            f"input {type_.name!r} has {size} bytes; the shape {[*shape]} of {type_.datatype} has "
            f"{count * type_.dtype.itemsize}"
        )
    tensor = np.require(np.frombuffer(data, type_.dtype, count, start), requirements="A")
    if type_.dtype.kind == "f" and not np.isfinite(tensor).all():
        index = int(np.isfinite(tensor).argmin())
        raise _wrong(type_, shape, index, float(tensor[index]))
    return tensor.reshape(shape)
