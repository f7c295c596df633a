"""Accuracy of an exported graph. Needs neither torch nor onnx."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exports.card import MODEL_FILE, Card, Metric
from exports.errors import ExportError
from exports.session import DigitsRunner, Floats, FramesRunner
from exports.store import read_card
from training.data import Digits, Speech, Utterance, load, load_speech


def measure_digits(runner: DigitsRunner, digits: Digits) -> list[Metric]:
    """Share of the images that the graph classifies correctly."""
    pixels = digits.pixels(slice(None)).reshape(len(digits), -1)
    right = int(np.sum(runner.classify(pixels) == digits.labels))
    return [_metric("accuracy", right, len(digits), digits)]


def measure_frames(runner: FramesRunner, speech: Speech, hop_length: int) -> list[Metric]:
    """Share of the frames, of the frames that are not silence, and of the utterances that have a class, that
    the graph classifies correctly.

    Classes that are scored as one (see `Speech`) count as one. An utterance's class is that with the greatest
    mean probability, silence left out.
    """
    frames = right_frames = spoken = right_spoken = whole = right_whole = 0
    scored = [speech.scored_as[label] for label in speech.labels]
    for utterance, probabilities in hear(runner, speech):
        wanted = utterance.frame_labels(hop_length)
        right = [
            scored[index] == speech.scored_as[label]
            for index, label in zip(probabilities.argmax(axis=1), wanted, strict=True)
        ]
        said = [hit for hit, label in zip(right, wanted, strict=True) if label != speech.silence]
        frames, right_frames = frames + len(right), right_frames + sum(right)
        spoken, right_spoken = spoken + len(said), right_spoken + sum(said)
        if utterance.label is not None:
            right_whole += decide(probabilities, speech) == utterance.label
            whole += 1
    metrics = [_metric("frame_accuracy", right_frames, frames, speech)]
    if spoken:
        metrics.append(_metric("spoken_frame_accuracy", right_spoken, spoken, speech))
    if whole:
        metrics.append(_metric("utterance_accuracy", right_whole, whole, speech))
    return metrics


def hear(
    runner: FramesRunner, speech: Speech, batch_size: int = 16
) -> list[tuple[Utterance, npt.NDArray[np.float32]]]:
    """Every utterance with its probabilities [frames, classes]."""
    by_length = sorted(speech.utterances, key=lambda utterance: len(utterance.samples))
    heard = []
    for start in range(0, len(by_length), batch_size):
        utterances = by_length[start : start + batch_size]
        lengths = [len(utterance.samples) for utterance in utterances]
        waveform: Floats = np.zeros((len(utterances), max(lengths)), np.float32)
        for row, utterance in zip(waveform, utterances, strict=True):
            row[: len(utterance.samples)] = utterance.samples
        rows = runner.rows(runner.run(waveform, lengths), lengths)
        heard += [(utterance, row[0]) for utterance, row in zip(utterances, rows, strict=True)]
    return heard


def decide(probabilities: npt.NDArray[np.float32], speech: Speech) -> str:
    """The class of a whole utterance, from the probabilities [frames, classes] of its frames."""
    means = probabilities.mean(axis=0, dtype=np.float64)
    if speech.silence is not None:
        means[speech.labels.index(speech.silence)] = 0.0
    label: str = speech.labels[int(means.argmax())]
    return label


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
    measured: list[Metric] = []
    for dataset, split in dict.fromkeys((metric.dataset, metric.split) for metric in card.metrics):
        threads = os.cpu_count() or 1
        source: Digits | Speech
        if card.task == "digits":
            source = load(dataset, split, data)
            _same_data(source, card)
            measured += measure_digits(DigitsRunner(content, card, threads), source)
        else:
            options = card.provenance.data_options
            source = load_speech(dataset, split, data, sample_rate=card.sample_rate, options=options)
            _same_data(source, card)
            measured += measure_frames(FramesRunner(content, card, threads), source, card.hop_length or 1)
    found = {(metric.name, metric.dataset, metric.split): metric for metric in measured}
    return [(stated, found[stated.name, stated.dataset, stated.split]) for stated in card.metrics]


def _same_data(source: Digits | Speech, card: Card) -> None:
    for name, checksum in card.provenance.data_sha256.items():
        if source.checksums.get(name, checksum) != checksum:
            raise ExportError(
                f"{name} of {source.dataset} is not the file that the card's figures were measured on: "
                "choose another --data"
            )


def _metric(name: str, right: int, count: int, source: Digits | Speech) -> Metric:
    return Metric(name=name, value=right / count, dataset=source.dataset, split=source.split, count=count)
