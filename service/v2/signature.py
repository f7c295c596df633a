"""What a model takes and gives, in the protocol's terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from exports.card import Card, DType
from service.engine import Model
from service.engine.batching import LENGTHS

DATATYPES: Mapping[DType, str] = {"float32": "FP32", "int32": "INT32", "int64": "INT64", "uint8": "UINT8"}


@dataclass(frozen=True, slots=True)
class TensorType:
    """A tensor that a request may hold or ask for.

    Attributes:
        datatype: the protocol's name for what it is made of.
        dtype: numpy's, little-endian.
        shape: a string names a dynamic dimension, of the same size wherever the name is; the batch is first.
        optional: a request may leave it out.
    """

    name: str
    datatype: str
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]
    optional: bool = False

    @property
    def dims(self) -> list[int]:
        """The shape as the protocol writes it: -1 is a dynamic dimension."""
        return [-1 if isinstance(size, str) else size for size in self.shape]

    def __str__(self) -> str:
        return f"{self.name} ({self.datatype} {self.dims})"


class Signature:
    """The tensors of one version of a model, by name.

    Args:
        card: the model's.

    Attributes:
        card: as given.
        inputs: the card's, and the states, which start at zero if left out.
        outputs: the card's, and what becomes of the states.
        default_outputs: the card's, which a request gets that names none.
        counted: the input of which `lengths` counts the second dimension, if the model has such an input.
            Lengths that are left out are all of it.
    """

    def __init__(self, card: Card) -> None:
        ragged = [spec.name for spec in card.inputs if len(spec.shape) > 1 and isinstance(spec.shape[1], str)]
        counts = len(ragged) == 1 and any(spec.name == LENGTHS for spec in card.inputs)
        self.card = card
        self.inputs = {
            spec.name: _type(spec.name, spec.dtype, spec.shape, optional=counts and spec.name == LENGTHS)
            for spec in card.inputs
        }
        self.outputs = {spec.name: _type(spec.name, spec.dtype, spec.shape) for spec in card.outputs}
        self.default_outputs = tuple(self.outputs)
        self.counted = self.inputs[ragged[0]] if counts else None
        for state in card.states:
            self.inputs[state.name] = _type(state.name, state.dtype, state.shape, optional=True)
            self.outputs[state.output] = _type(state.output, state.dtype, state.shape)


def _type(name: str, dtype: DType, shape: Sequence[int | str], *, optional: bool = False) -> TensorType:
    return TensorType(name, DATATYPES[dtype], np.dtype(dtype).newbyteorder("<"), tuple(shape), optional)


class Signatures:
    """The signatures of models that are asked for often."""

    def __init__(self) -> None:
        self._made: WeakKeyDictionary[Model, Signature] = WeakKeyDictionary()

    def of(self, model: Model) -> Signature:
        """What the model takes and gives."""
        signature = self._made.get(model)
        if signature is None:
            signature = self._made[model] = Signature(model.card)
        return signature
