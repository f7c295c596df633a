"""Checkpoint in, artifact out."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch.nn.utils.parametrize import type_before_parametrizations

from exports.card import Card, Golden, ModelFile, Provenance
from exports.checkpoint import Checkpoint, read_checkpoint
from exports.digits import digits_graph
from exports.errors import ExportError
from exports.measure import measure_accuracy
from exports.session import Floats, Runner
from exports.store import free_version, write_artifact
from exports.verification import measure_exactness, verify
from training.data import Digits, load

# across processors and onnxruntime versions; a wrong file is off by far more
GOLDEN_TOLERANCE = 1e-4
LIBRARIES = ("torch", "lightning", "onnx", "onnxruntime", "numpy")


def export(path: Path, name: str, version: int | None, store: Path, data: Path) -> tuple[Path, Card]:
    """Build, verify, measure and write an artifact.

    Args:
        path: a checkpoint of `python -m training fit`.
        name: the model's name in the store.
        version: its version; None for one more than the newest.
        store: where to write.
        data: the data directory; the test split's accuracy goes into the card.

    Returns:
        The artifact's folder, and its card.

    Raises:
        ExportError: the checkpoint cannot be read or exported, the graph is not the network, or the version
            exists.
        DataError: the test split cannot be had.
    """
    number = free_version(store, name, version)
    checkpoint = read_checkpoint(path)
    classifier = checkpoint.classifier
    test = load(checkpoint.dataset, "test", data)
    rows, columns = test.images.shape[1:]
    if classifier.permutation is not None and len(classifier.permutation) != rows * columns:
        raise ExportError(
            f"the model permutes {len(classifier.permutation)} pixels, {test.dataset} has {rows * columns}: "
            "train with a permutation of its pixels"
        )
    exported = digits_graph(classifier, name, str(number))
    verification = verify(classifier, exported, rows * columns)
    model = exported.model.SerializeToString()
    card = Card(
        name=name,
        version=str(number),
        task="digits",
        description=f"{_describe(checkpoint)} reading {rows} x {columns} images of digits pixel by pixel",
        labels=[str(label) for label in range(classifier.head.out_features)],
        inputs=exported.inputs,
        outputs=exported.outputs,
        states=exported.states,
        image_shape=(rows, columns),
        exactness=measure_exactness(
            Runner(model, exported.states), rows * columns, classifier.permutation is None
        ),
        metrics=[measure_accuracy(Runner(model, exported.states, threads=os.cpu_count() or 1), test)],
        verification=verification,
        provenance=_provenance(checkpoint, test),
        file=ModelFile(sha256=hashlib.sha256(model).hexdigest(), bytes=len(model)),
        golden=_golden(Runner(model, exported.states), test.pixels(slice(0, 1)).reshape(1, -1)),
    )
    return write_artifact(store, card, model), card


def _describe(checkpoint: Checkpoint) -> str:
    rnn = checkpoint.classifier.rnn
    layers = f"{rnn.num_layers} layers of " if rnn.num_layers > 1 else ""
    name = type_before_parametrizations(rnn.filter).__name__
    cell = f"{name} {rnn.recurrence.__name__} ({rnn.filter.extra_repr()})"
    return f"{cell}, {layers}{rnn.hidden_size} units,"


def _provenance(checkpoint: Checkpoint, test: Digits) -> Provenance:
    known: dict[str, Any] = checkpoint.provenance
    libraries = {library: importlib.metadata.version(library) for library in LIBRARIES}
    return Provenance(
        recipe=known["recipe"],
        seed=known["seed"],
        epochs=known["epochs"],
        data_sha256={**known["sha256"], **test.checksums},
        git_commit=_git_commit(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        libraries={"python": platform.python_version(), **libraries},
    )


def _git_commit() -> str | None:
    """The commit of the working tree that exports, None outside one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None


def _golden(runner: Runner, pixels: Floats) -> Golden:
    """The pair for the card: `pixels` [1, time] from the start."""
    probabilities, _, _ = runner.run(pixels)
    inputs: dict[str, list[Any]] = {
        # float32's shortest decimal form reads back as the same float32
        "pixels": [[float(str(value)) for value in row] for row in pixels],
        "lengths": [pixels.shape[1]],
    }
    return Golden(
        inputs=inputs, outputs={"probabilities": probabilities.tolist()}, tolerance=GOLDEN_TOLERANCE
    )
