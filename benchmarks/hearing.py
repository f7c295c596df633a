"""What the shipped model hears, as pictures: `python -m benchmarks.hearing`.

Writes the confusion matrix of its frames and utterances over the test split, and the posteriorgram of a
recording: the probability of every class in every frame.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import soundfile
from matplotlib.figure import Figure

from exports.card import MODEL_FILE, Card
from exports.measure import decide, hear
from exports.session import FramesRunner
from exports.store import DEFAULT_STORE, read_card
from training.data import data_directory, load_speech
from training.plots import COLOURS, STYLE, write_svg

Counts = npt.NDArray[np.int64]


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw both; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hearing", description=__doc__)
    parser.add_argument(
        "--data", type=Path, help="data directory; default: MOMENTUM_DATA, else ~/.cache/momentum-serve"
    )
    parser.add_argument(
        "--recording", type=Path, default=Path("docs/audio/digits.wav"), help="default: %(default)s"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder of the pictures")
    options = parser.parse_args(arguments)
    folder, card = read_card(DEFAULT_STORE, "frames")
    samples, rate = soundfile.read(options.recording, dtype="float32")
    if rate != card.sample_rate:
        parser.error(f"{options.recording} has {rate} Hz, the model hears {card.sample_rate}")
    runner = FramesRunner(folder / MODEL_FILE, card)
    frames, utterances = confusion(runner, card, data_directory(options.data))
    options.out.mkdir(parents=True, exist_ok=True)
    write_counts(card.labels, frames, utterances, options.out / "frames-confusion.csv")
    with mpl.rc_context(STYLE):
        write_svg(draw_confusion(card.labels, frames, utterances), options.out / "frames-confusion.svg")
        result = runner.run(samples[None])
        ((probabilities,),) = runner.rows(result, [len(samples)])
        picture = draw_posteriorgram(card, samples, probabilities)
        write_svg(picture, options.out / "frames-posteriorgram.svg")
    return 0


def confusion(runner: FramesRunner, card: Card, data: Path) -> tuple[Counts, Counts]:
    """How often each class was heard as each, [said, heard]: over frames, and over utterances."""
    metric = card.metrics[0]
    speech = load_speech(
        metric.dataset,
        metric.split,
        data,
        sample_rate=card.sample_rate,
        options=card.provenance.data_options,
    )
    number = {label: index for index, label in enumerate(card.labels)}
    frames, utterances = (np.zeros((len(number), len(number)), np.int64) for _ in range(2))
    for utterance, probabilities in hear(runner, speech):
        said = [number[label] for label in utterance.frame_labels(card.hop_length or 1)]
        np.add.at(frames, (said, probabilities.argmax(axis=1)), 1)
        if utterance.label is not None:
            utterances[number[utterance.label], number[decide(probabilities, speech)]] += 1
    return frames, utterances


def write_counts(labels: Sequence[str], frames: Counts, utterances: Counts, path: Path) -> None:
    """A row for each pair of classes."""
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["said", "heard", "frames", "utterances"])
        for i, said in enumerate(labels):
            for j, heard in enumerate(labels):
                table.writerow([said, heard, frames[i, j], utterances[i, j]])


def draw_confusion(labels: Sequence[str], frames: Counts, utterances: Counts) -> Figure:
    """Both matrices, each row in percent."""
    figure = Figure(figsize=(9.6, 4.6), layout="constrained")
    for axes, counts, title in zip(
        figure.subplots(1, 2), (frames, utterances), ("frames", "utterances"), strict=True
    ):
        said = counts.sum(axis=1) > 0
        shares = 100.0 * counts[said] / counts[said].sum(axis=1, keepdims=True)
        axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=100.0, aspect="auto")
        for (i, j), share in np.ndenumerate(shares):
            if share >= 0.5:
                colour = "white" if share > 50.0 else "black"
                axes.text(j, i, f"{share:.0f}", ha="center", va="center", color=colour, fontsize=7)
        axes.set_xticks(range(len(labels)), labels, rotation=45)
        axes.set_yticks(
            range(int(said.sum())), [label for label, some in zip(labels, said, strict=True) if some]
        )
        axes.set_xlabel("heard as")
        axes.set_ylabel("said")
        right = 100.0 * np.trace(counts) / counts.sum()
        axes.set_title(f"{counts.sum():,} {title}, {right:.1f} % right: percent of those said")
        axes.grid(visible=False)
    return figure


def draw_posteriorgram(
    card: Card, samples: npt.NDArray[np.float32], probabilities: npt.NDArray[np.float32]
) -> Figure:
    """The waveform, and under it the probability of every class."""
    rate, hop = card.sample_rate or 1, card.hop_length or 1
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    wave, classes = figure.subplots(2, 1, sharex=True, height_ratios=[1, 2])
    wave.plot(np.arange(len(samples)) / rate, samples, color=COLOURS[0], linewidth=0.4)
    wave.set_ylabel("waveform")
    wave.grid(visible=False)
    extent = (0.0, len(probabilities) * hop / rate, len(card.labels) - 0.5, -0.5)
    image = classes.imshow(
        probabilities.T,
        cmap="Blues",
        vmin=0.0,
        vmax=1.0,
        aspect="auto",
        extent=extent,
        interpolation="nearest",
    )
    classes.set_yticks(range(len(card.labels)), card.labels)
    classes.set_xlabel("seconds")
    classes.grid(visible=False)
    figure.colorbar(image, ax=classes, label="probability", pad=0.01)
    return figure


if __name__ == "__main__":
    sys.exit(main())
