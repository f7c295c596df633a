"""Versions of the served models: two that answer differently, so that an answer tells which one gave it, and
broken ones.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from exports.card import MODEL_FILE, Card, ModelFile
from exports.session import DigitsRunner, FramesRunner, Runner
from exports.store import read_card, write_artifact

_SCALE = np.float32(1.25)  # of the second variant's last weights
_RUNNERS: dict[str, type[Runner]] = {"digits": DigitsRunner, "frames": FramesRunner}


@dataclass(frozen=True)
class Artifact:
    """A graph and its card."""

    graph: bytes
    card: Card

    def runner(self) -> Runner:
        """It in onnxruntime alone."""
        return _RUNNERS[self.card.task](self.graph, self.card)

    def write(self, store: Path, version: int) -> Path:
        """Put it into a store, whole, as this version; returns its folder."""
        return write_artifact(store, self.card.model_copy(update={"version": str(version)}), self.graph)


def variants(store: Path, name: str) -> tuple[Artifact, Artifact]:
    """The newest version of a model, for the odd versions, and one that answers a little differently, for
    the even ones; the latter is the first.

    Raises:
        ValueError: no weights were found that could be changed.
    """
    folder, card = read_card(store, name)
    original = Artifact((folder / MODEL_FILE).read_bytes(), card)
    return _changed(original), original


def _changed(artifact: Artifact) -> Artifact:
    """With other weights before the classes' scores, and the golden outputs that come of them."""
    model = onnx.load_model_from_string(artifact.graph)
    classes = len(artifact.card.labels)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.dims and tensor.dims[-1] == classes:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * _SCALE, tensor.name))
            break
    else:
        raise ValueError(f"model {artifact.card.name} has no weights of {classes} columns")
    graph = bytes(model.SerializeToString())
    card = artifact.card
    file = ModelFile(name=MODEL_FILE, sha256=hashlib.sha256(graph).hexdigest(), bytes=len(graph))
    changed = Artifact(graph, card.model_copy(update={"file": file}))
    inputs = [np.asarray(card.golden.inputs[spec.name], spec.dtype) for spec in card.inputs]
    first, second, _ = changed.runner().run(inputs[0], inputs[1].tolist())
    answers = dict(zip((spec.name for spec in card.outputs), (first, second), strict=True))
    outputs = {name: answers[name].tolist() for name in card.golden.outputs}
    golden = card.golden.model_copy(update={"outputs": outputs})
    return Artifact(graph, changed.card.model_copy(update={"golden": golden}))
