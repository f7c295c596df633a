"""What the protocol tells about a server and its models."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any, Literal

from pydantic import BaseModel

from exports.card import Card
from service.v2.signature import Signature, TensorType

EXTENSIONS = [
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "sequence",
    "sequence(string_id)",
    "statistics",
]


class ServerMetadata(BaseModel):
    """The server, and the extensions of the protocol that it speaks."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """A tensor; -1 is a dimension of any size from 1 on."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """A model: the versions that can be asked for, and the tensors of the one that was asked about. States
    are not listed here but in the configuration.
    """

    name: str
    versions: list[str]
    platform: Literal["onnx_onnxv1"]
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ModelReady(BaseModel):
    """Whether the model answers requests."""

    name: str
    ready: bool


def server() -> dict[str, Any]:
    """The `ServerMetadata`."""
    return {"name": "momentum-serve", "version": version("momentum-serve"), "extensions": EXTENSIONS}


def model(signature: Signature, versions: list[str]) -> dict[str, Any]:
    """A `ModelMetadata`.

    Args:
        signature: of the version that is asked about.
        versions: all that can be asked for.
    """
    card = signature.card
    return {
        "name": card.name,
        "versions": versions,
        "platform": "onnx_onnxv1",
        "inputs": _tensors(signature.inputs[spec.name] for spec in card.inputs),
        "outputs": _tensors(signature.outputs[spec.name] for spec in card.outputs),
    }


def _tensors(types: Iterable[TensorType]) -> list[dict[str, Any]]:
    return [{"name": type_.name, "datatype": type_.datatype, "shape": type_.dims} for type_ in types]


def config(signature: Signature, max_batch_size: int) -> dict[str, Any]:
    """As much of Triton's model configuration as has a meaning here. Its shapes are without the batch.

    Args:
        signature: of the version that is asked about.
        max_batch_size: the most rows of a request.
    """
    card = signature.card
    return {
        "name": card.name,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "max_batch_size": max_batch_size,
        "input": [
            _configured(signature.inputs[spec.name]) | {"optional": signature.inputs[spec.name].optional}
            for spec in card.inputs
        ],
        "output": [_configured(signature.outputs[spec.name]) for spec in card.outputs],
        "sequence_batching": {"state": _states(card, signature)},
        "parameters": {
            name: {"string_value": value}
            for name, value in (("task", card.task), ("labels", ",".join(card.labels)))
        },
    }


def _configured(type_: TensorType) -> dict[str, Any]:
    return {"name": type_.name, "data_type": f"TYPE_{type_.datatype}", "dims": type_.dims[1:]}


def _states(card: Card, signature: Signature) -> list[dict[str, Any]]:
    states = []
    for state in card.states:
        type_ = signature.inputs[state.name]
        shape = {"data_type": f"TYPE_{type_.datatype}", "dims": type_.dims[1:]}
        zeros = [{"name": "zeros", "zero_data": True, **shape}]
        states.append(
            {"input_name": state.name, "output_name": state.output, **shape, "initial_state": zeros}
        )
    return states
