"""Is the graph the network?"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from exports.card import Verification
from exports.errors import ExportError
from exports.session import Result, Runner
from exports.subject import Row, Subject

TOLERANCE = 1e-5
# Over many steps some networks amplify rounding, in PyTorch's float32 too (an orthogonal one jumps where
# modReLU does): past so many steps the graph may be off by so many times as much, both against float64.
SHORT = 8
ROUNDING = 32.0
RANDOM_WEIGHTS = 3


def verify(subject: Subject, size: int) -> Verification:
    """Compare the graph with PyTorch: probabilities after every step, and the recurrence's states.

    A state is compared relative to its largest value where that is above 1. Several batch sizes and lengths
    with 1 among them; whole, continued in two chunks, padded and continued; with the trained weights and with
    random ones.

    Args:
        subject: the network and its graph.
        size: numbers in the longest sequence to compare with.

    Raises:
        ExportError: some output differs by more than 1e-5; past 8 steps, by more than 1e-5 and more than 32
            times what PyTorch's own float32 does.
    """
    unit = subject.unit
    short = min(SHORT * unit, size)
    shapes = [(1, unit), (1, size), (2, 3 * unit), (4, short), (3, size // 2), (5, size)]
    generator = torch.Generator().manual_seed(0)
    subjects = [("trained", subject)]
    for number in range(RANDOM_WEIGHTS):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            subjects.append((f"random {number + 1}", subject.redrawn()))
    worst, allowed, cases = 0.0, TOLERANCE, []
    for label, one in subjects:
        runner, exact = one.runner(), _in_float64(one.network)
        for batch, length in shapes if one.streams else [(1, size), (5, size)]:
            difference, rounding = _differences(one, exact, runner, one.draw(batch, length, generator))
            tolerance = TOLERANCE if length <= short else max(TOLERANCE, ROUNDING * rounding)
            steps = length // unit
            cases.append(
                f"{label}, batch {batch}, time {steps}: {difference:.1e} (PyTorch's float32: {rounding:.1e})"
            )
            if not difference <= tolerance:
                raise ExportError(
                    f"the graph differs from PyTorch by {difference:.1e}, more than {tolerance:.1e}; nothing "
                    "was written. This is a defect of the exporter: please report it with the recipe. "
                    f"Cases: {'; '.join(cases)}"
                )
            if difference > worst:
                worst, allowed = difference, tolerance if difference > TOLERANCE else TOLERANCE
    return Verification(max_difference=worst, tolerance=allowed, cases=cases)


def _in_float64(network: Any) -> Any:
    """The same numbers as weights: an orthogonal matrix as float32 has it, not made anew."""
    rnn, exact = network.rnn, copy.deepcopy(network).double()
    weights = {
        suffix: {name: weight.detach().double() for name, weight in rnn.layer_weights(suffix).items()}
        for layer in range(rnn.num_layers)
        for suffix in rnn.suffixes(layer)
    }
    exact.rnn.layer_weights = lambda suffix: dict(weights[suffix])
    return exact


@torch.no_grad()
def _differences(subject: Subject, exact: Any, runner: Runner, x: torch.Tensor) -> tuple[float, float]:
    """How far the graph, whole, continued and padded, and PyTorch in float32, are from PyTorch in float64."""
    batch, size = x.shape
    expected = subject.ask(exact, x.double())
    # cell states grow with the length, hidden states without a bound too: so does their rounding
    scales = [
        max(1.0, *(float(np.abs(v).max(initial=0.0)) for v in part)) for part in zip(*expected, strict=True)
    ]

    def farthest(found: Sequence[Row], wanted: Sequence[Row]) -> float:
        return max(
            float(np.abs(value - other).max(initial=0.0)) / scale if value.shape == other.shape else np.inf
            for row, other_row in zip(found, wanted, strict=True)
            for value, other, scale in zip(row, other_row, scales, strict=True)
        )

    def rows(result: Result, lengths: Sequence[int]) -> list[Row]:
        states = [result[2][name] for name in subject.network.rnn.recurrence.states]
        return [
            [np.asarray(value, np.float64) for value in (*said, *(state[row] for state in states))]
            for row, said in enumerate(runner.rows(result, lengths))
        ]

    whole = rows(runner.run(x.numpy()), [size] * batch)
    differences = [farthest(whole, expected)]
    if size > subject.unit and subject.streams:
        cut = size // 2
        begun = runner.run(x[:, :cut].numpy())
        ended = rows(runner.run(x[:, cut:].numpy(), states=begun[2]), [size - cut] * batch)
        for before, after in zip(rows(begun, [cut] * batch), ended, strict=True):
            after[0] = np.concatenate([before[0], after[0]])
        differences.append(farthest(ended, expected))
        lengths = [1 + (row * (size - 1)) // max(1, batch - 1) for row in range(batch)]
        result = runner.run(x.numpy(), lengths)
        padded = rows(result, lengths)
        for row, length in enumerate(lengths):
            one = slice(row, row + 1)
            if length >= subject.unit:
                differences.append(farthest(padded[one], subject.ask(exact, x[one, :length].double())))
            if length < size:
                states = {name: value[one] for name, value in result[2].items()}
                (rest,) = rows(runner.run(x[one, length:].numpy(), states=states), [size - length])
                rest[0] = np.concatenate([padded[row][0], rest[0]])
                differences.append(farthest([rest], expected[one]))
    return max(differences), farthest(subject.ask(subject.network, x), expected)
