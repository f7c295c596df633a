"""Accuracy of an exported graph. Needs neither torch nor onnx."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from exports.card import MODEL_FILE, Metric
from exports.errors import ExportError
from exports.session import Runner
from exports.store import read_card
from training.data import Digits, load


def measure_accuracy(runner: Runner, digits: Digits) -> Metric:
    """Share of the images that the graph classifies correctly."""
    pixels = digits.pixels(slice(None)).reshape(len(digits), -1)
    correct = int(np.sum(runner.classify(pixels) == digits.labels))
    return Metric(
        name="accuracy",
        value=correct / len(digits),
        dataset=digits.dataset,
        split=digits.split,
        count=len(digits),
    )


def verify_stored(store: Path, name: str, version: int | None, data: Path) -> list[tuple[Metric, Metric]]:
    """Measure every accuracy of a stored artifact's card again.

    Returns:
        What the card says and what was measured now, pair by pair.

    Raises:
        ExportError: there is no such artifact, or its file is not the one that its card describes.
        CardError: its card cannot be read.
        DataError: the data cannot be had.
    """
    folder, card = read_card(store, name, version)
    try:
        content = (folder / MODEL_FILE).read_bytes()
    except OSError as error:
        raise ExportError(
            f"{folder / MODEL_FILE} cannot be read ({error.strerror}): export the model again"
        ) from error
    if hashlib.sha256(content).hexdigest() != card.file.sha256:
        raise ExportError(
            f"{folder / MODEL_FILE} is not the file that its card describes (sha256): export the model again"
        )
    runner = Runner(content, card.states, threads=os.cpu_count() or 1)
    results = []
    for stated in card.metrics:
        digits = load(stated.dataset, stated.split, data)
        for source, checksum in card.provenance.data_sha256.items():
            if digits.checksums.get(source, checksum) != checksum:
                raise ExportError(
                    f"{source} of {stated.dataset} is not the file that the card's figures were measured on: "
                    "choose another --data"
                )
        results.append((stated, measure_accuracy(runner, digits)))
    return results
