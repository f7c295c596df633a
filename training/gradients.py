"""`python -m training gradients`: how much of the loss's gradient reaches each step of a sequence."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import cross_entropy

from models import DigitClassifier, orthogonal_parameters, rebase_, unroll
from training.data import DataError, Digits, data_directory, load
from training.data.mnist import has_mnist
from training.plots import COLOURS, STYLE, write_svg

RECURRENCES = {"lstm": "LSTM", "rnn_tanh": "RNN", "orthogonal": "DTRIV"}
FILTERS = {"identity": "plain", "momentum": "momentum"}
MOMENTUM = {"mu": 0.6, "epsilon": 0.6}

INVISIBLE = 1e-20  # where the plot's axis ends; the table goes on


@dataclass(frozen=True)
class Norms:
    """Mean over a batch of the norm of dL/dh_t of each example's loss, at one moment of a training.

    Attributes:
        recurrence, filter: which network.
        iteration: optimizer steps done.
        values: [time].
    """

    recurrence: str
    filter: str
    iteration: int
    values: list[float]


def main(arguments: Sequence[str]) -> int:
    """Run the command line; returns the process's exit status: 0 done, 1 refused."""
    options = _parser().parse_args(arguments)
    root = data_directory(options.data)
    dataset = "mnist" if has_mnist(root) else "optdigits"
    if dataset == "optdigits":
        print(f"{root} has no MNIST: drawing the gradients on optdigits instead, 64 steps for 784")
    try:
        train, held_out = load(dataset, "train", root), load(dataset, "validation", root)
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    found = [
        norms
        for recurrence in RECURRENCES
        for filter_name in FILTERS
        for norms in follow(
            recurrence, filter_name, train, held_out, options.iterations, options.hidden_size, options.seed
        )
    ]
    table, plot = (Path(f"{options.out}.{suffix}") for suffix in ("csv", "svg"))
    table.parent.mkdir(parents=True, exist_ok=True)
    write_table(found, table)
    write_svg(draw(found), plot)
    print(f"{table}\n{plot}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training gradients",
        description="Draw the norm of dL/dh_t over t for LSTM, RNN and DTRIV with and without momentum, at "
        "the beginning of a training and on its way, L being the loss after the last pixel of MNIST: "
        "NAME.csv and NAME.svg.",
    )
    parser.add_argument(
        "--iterations",
        type=_count,
        nargs="+",
        default=[0, 50, 200],
        help="after how many optimizer steps to look; default: %(default)s",
    )
    parser.add_argument("--hidden-size", type=_size, default=64, help="units; default: %(default)s")
    parser.add_argument("--seed", type=_count, default=1, help="default: %(default)s")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("docs/results/gradients"),
        metavar="NAME",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--data", type=Path, help="data directory; default: MOMENTUM_DATA, else ~/.cache/momentum-serve"
    )
    return parser


def _count(value: str) -> int:
    if not value.isdecimal():
        raise argparse.ArgumentTypeError(f"{value!r} is no whole number from 0")
    return int(value)


def _size(value: str) -> int:
    if _count(value) == 0:
        raise argparse.ArgumentTypeError("expected at least 1")
    return int(value)


def follow(
    recurrence: str,
    filter_name: str,
    train: Digits,
    held_out: Digits,
    iterations: Sequence[int],
    hidden_size: int,
    seed: int,
    batch_size: int = 64,
) -> Iterator[Norms]:
    """Train a network as the MomentumRNN authors do and look at its gradients on the way.

    Args:
        recurrence, filter_name: which network.
        train: what to train on.
        held_out: whose first `batch_size` images the norms are measured on.
        iterations: after how many optimizer steps to look.
        hidden_size: units.
        seed: of the weights and of the order of the images, the same for every network.
        batch_size: images a step.
    """
    torch.manual_seed(seed)
    classifier = DigitClassifier(
        hidden_size,
        filter=filter_name,
        filter_options=MOMENTUM if filter_name == "momentum" else None,
        recurrence=recurrence,
        bias=recurrence != "orthogonal",
        initialization="authors" if recurrence == "lstm" else "torch",
    )
    optimizer = _optimizer(classifier, recurrence)
    images, labels = _batch(held_out, slice(0, batch_size))
    draw_images = np.random.default_rng(seed)
    for step in range(max(iterations) + 1):
        if step in iterations:
            yield Norms(recurrence, filter_name, step, gradient_norms(classifier, images, labels))
        rebase_(classifier)  # K = 1
        batch, wanted = _batch(train, draw_images.integers(len(train), size=batch_size))
        optimizer.zero_grad()
        loss: Tensor = cross_entropy(classifier(batch), wanted)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(classifier.parameters(), 1.0)
        optimizer.step()


def gradient_norms(classifier: DigitClassifier, images: Tensor, labels: Tensor) -> list[float]:
    """Mean over the batch of the Euclidean norm of dL/dh_t of each example's loss, for every t.

    Args:
        classifier: with one layer.
        images: [batch, rows, columns].
        labels: [batch].
    """
    pixels = images.flatten(1)
    hidden = unroll(classifier.rnn, pixels.T.unsqueeze(-1))
    # the sum: so that a row of dL/dh_t is the gradient of that row's loss
    loss = cross_entropy(classifier.head(hidden[-1]), labels, reduction="sum")
    gradients = torch.autograd.grad(loss, hidden)
    return [float(gradient.double().norm(dim=1).mean()) for gradient in gradients]


def _optimizer(classifier: DigitClassifier, recurrence: str) -> torch.optim.Optimizer:
    orthogonal = orthogonal_parameters(classifier)
    if recurrence != "orthogonal":
        return torch.optim.RMSprop(classifier.parameters(), lr=1e-3, alpha=0.9)
    rest = [p for p in classifier.parameters() if all(p is not other for other in orthogonal)]
    groups: list[dict[str, Any]] = [{"params": rest}, {"params": orthogonal, "lr": 2e-4}]
    return torch.optim.RMSprop(groups, lr=7e-4)


def _batch(
    digits: Digits, members: slice | np.ndarray[tuple[int], np.dtype[np.int64]]
) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(digits.pixels(members)), torch.from_numpy(digits.labels[members])


def write_table(found: Sequence[Norms], path: Path) -> None:
    """A CSV file with a line for every norm: recurrence, filter, iteration, step of the sequence (from 1)."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["recurrence", "filter", "iteration", "t", "norm"])
        for norms in found:
            start = [norms.recurrence, norms.filter, norms.iteration]
            writer.writerows([*start, t, f"{value:.6g}"] for t, value in enumerate(norms.values, start=1))


def draw(found: Sequence[Norms]) -> Figure:
    """Norms over time: a row of panels for each recurrence, a column for each iteration."""
    iterations = sorted({norms.iteration for norms in found})
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.6 * len(iterations) + 0.8, 6), layout="constrained")
        panels = figure.subplots(len(RECURRENCES), len(iterations), sharex=True, sharey=True, squeeze=False)
        for norms in found:
            row, column = list(RECURRENCES).index(norms.recurrence), iterations.index(norms.iteration)
            momentum = norms.filter == "momentum"
            panels[row, column].semilogy(
                range(1, len(norms.values) + 1),
                # a logarithmic axis has no 0: what has underflowed is a gap
                [value or float("nan") for value in norms.values],
                color=COLOURS[momentum],
                linestyle="--" if momentum else "-",  # where the two agree both can be seen
                label=FILTERS[norms.filter],
            )
        for row, name in enumerate(RECURRENCES.values()):
            panels[row, 0].set_ylabel(f"{name}\n$\\|\\partial L / \\partial h_t\\|$")
        for column, iteration in enumerate(iterations):
            panels[0, column].set_title(f"iteration {iteration}")
            panels[-1, column].set_xlabel("t")
        low, high = panels[0, 0].get_ylim()
        panels[0, 0].set_ylim(max(low, INVISIBLE), high)
        figure.legend(
            *panels[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=len(FILTERS)
        )
    return figure
