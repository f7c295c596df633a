"""What a graph builder returns."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from exports.card import StateSpec, TensorSpec


@dataclass(frozen=True)
class Exported:
    """A graph and what its card says of its tensors."""

    model: onnx.ModelProto
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    states: list[StateSpec]
