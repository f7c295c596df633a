"""Checkpoint in, artifact out."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.parametrize import type_before_parametrizations

from exports.card import Card, Golden, Metric, ModelFile, Provenance
from exports.checkpoint import Checkpoint, read_checkpoint
from exports.digits import DigitsSubject, digits_graph
from exports.errors import ExportError
from exports.exactness import measure_exactness
from exports.exported import Exported
from exports.frames import FramesSubject, frames_graph
from exports.measure import measure_digits, measure_frames
from exports.session import DigitsRunner, Floats, FramesRunner, Runner
from exports.store import free_version, write_artifact
from exports.subject import Subject
from exports.verification import verify
from models import AcceleratedRNN, DigitClassifier, FrameModel
from training.data import Digits, Speech, load, load_speech

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
    number = str(free_version(store, name, version))
    checkpoint = read_checkpoint(path)
    network = checkpoint.network
    if isinstance(network, DigitClassifier):
        made = _digits(network, digits_graph(network, name, number), checkpoint, data)
    else:
        made = _frames(network, frames_graph(network, name, number), checkpoint, data)
    exported, runner = made.subject.exported, made.subject.runner()
    verification = verify(made.subject, made.size)
    x = made.subject.draw(8, made.size, torch.Generator().manual_seed(0)).numpy()
    model = exported.model.SerializeToString()
    card = Card(
        name=name,
        version=number,
        labels=checkpoint.labels,
        inputs=exported.inputs,
        outputs=exported.outputs,
        states=exported.states,
        exactness=measure_exactness(runner, x, made.subject.unit, made.subject.streams),
        metrics=made.measure(model),
        verification=verification,
        provenance=_provenance(checkpoint, made.test),
        file=ModelFile(sha256=hashlib.sha256(model).hexdigest(), bytes=len(model)),
        golden=_golden(runner, exported, made.golden),
        **made.fields,
    )
    return write_artifact(store, card, model), card


@dataclass(frozen=True)
class _Job:
    """What the two tasks differ in.

    Attributes:
        subject: the network and its graph.
        size: how long the sequences are that it is verified with.
        golden: the input of the card's golden pair [1, any size].
        fields: the card's fields that only this task has.
        test: the split to measure on.
        measure: measures a model's content on it.
    """

    subject: Subject
    size: int
    golden: Floats
    fields: dict[str, Any]
    test: Digits | Speech
    measure: Callable[[bytes], list[Metric]]


def _digits(network: DigitClassifier, exported: Exported, checkpoint: Checkpoint, data: Path) -> _Job:
    test = load(checkpoint.provenance["dataset"], "test", data)
    rows, columns = test.images.shape[1:]
    if network.permutation is not None and len(network.permutation) != rows * columns:
        raise ExportError(
            f"the model permutes {len(network.permutation)} pixels, {test.dataset} has {rows * columns}: "
            "train with a permutation of its pixels"
        )
    what = f"{rows} x {columns} images of digits pixel by pixel"
    return _Job(
        subject=DigitsSubject(network, exported),
        size=rows * columns,
        golden=test.pixels(slice(0, 1)).reshape(1, -1),
        fields={
            "task": "digits",
            "description": f"{_describe(network.rnn)} reading {what}",
            "image_shape": (rows, columns),
        },
        test=test,
        measure=lambda model: measure_digits(DigitsRunner(model, exported, os.cpu_count() or 1), test),
    )


def _frames(network: FrameModel, exported: Exported, checkpoint: Checkpoint, data: Path) -> _Job:
    provenance, front_end = checkpoint.provenance, network.front_end
    hop = front_end.hop_length
    test = load_speech(
        provenance["dataset"],
        "test",
        data,
        sample_rate=front_end.sample_rate,
        options=provenance.get("options", {}),
    )
    if (checkpoint.labels, checkpoint.silence) != (list(test.labels), test.silence):
        raise ExportError(f"the model's classes are not those of {test.dataset} today: train it again")
    what = f"speech at {front_end.sample_rate} Hz in frames of {hop} samples"
    return _Job(
        subject=FramesSubject(network, exported, hop),
        size=100 * hop + hop // 2,
        golden=test.utterances[0].samples[None, : 20 * hop + hop // 2],
        fields={
            "task": "frames",
            "description": f"{_describe(network.rnn)} hearing {what}",
            "sample_rate": front_end.sample_rate,
            "hop_length": hop,
            "silence": checkpoint.silence,
        },
        test=test,
        measure=lambda model: measure_frames(FramesRunner(model, exported, os.cpu_count() or 1), test, hop),
    )


def _describe(rnn: AcceleratedRNN) -> str:
    layers = f"{rnn.num_layers} layers of " if rnn.num_layers > 1 else ""
    name = type_before_parametrizations(rnn.filter).__name__
    cell = f"{name} {rnn.recurrence.__name__} ({rnn.filter.extra_repr()})"
    return f"{cell}, {layers}{rnn.hidden_size} units,"


def _provenance(checkpoint: Checkpoint, test: Digits | Speech) -> Provenance:
    known: dict[str, Any] = checkpoint.provenance
    libraries = {library: importlib.metadata.version(library) for library in LIBRARIES}
    return Provenance(
        recipe=known["recipe"],
        seed=known["seed"],
        epochs=known["epochs"],
        data_sha256={**known["sha256"], **test.checksums},
        data_options=known.get("options", {}),
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


def _golden(runner: Runner, exported: Exported, x: Floats) -> Golden:
    """The pair for the card: `x` [1, size] from the start."""
    probabilities, _, _ = runner.run(x)
    sequence, lengths = exported.inputs
    inputs: dict[str, list[Any]] = {
        # float32's shortest decimal form reads back as the same float32
        sequence.name: [[float(str(value)) for value in row] for row in x],
        lengths.name: [x.shape[1]],
    }
    return Golden(
        inputs=inputs, outputs={"probabilities": probabilities.tolist()}, tolerance=GOLDEN_TOLERANCE
    )
