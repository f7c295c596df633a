"""Is the graph the network? And what holds bit for bit?"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch

from exports.card import Exactness, Promise, Verification
from exports.digits import Exported, digits_graph
from exports.errors import ExportError
from exports.session import Floats, Runner, States
from models import DigitClassifier

TOLERANCE = 1e-5
RANDOM_WEIGHTS = 3


def verify(classifier: DigitClassifier, exported: Exported, steps: int) -> Verification:
    """Compare the graph with PyTorch: probabilities, every step of the trace, and the states h and c.

    c is compared relative to its largest value where that is above 1. Several batch sizes and lengths with 1
    among them, whole and continued in two chunks, with the trained weights and with random ones.

    Args:
        classifier: the network.
        exported: its graph.
        steps: pixels of an image.

    Raises:
        ExportError: some output differs by more than 1e-5.
    """
    shapes = [(1, 1), (1, steps), (2, 3), (3, steps // 2), (5, steps)]
    if classifier.permutation is not None:
        shapes = [(batch, steps) for batch in (1, 2, 5)]
    generator = torch.Generator().manual_seed(0)
    networks = [("trained", classifier, exported)]
    for number in range(RANDOM_WEIGHTS):
        other = copy.deepcopy(classifier)
        for parameter in other.parameters():
            bound = 1 / math.sqrt(classifier.rnn.hidden_size)
            torch.nn.init.uniform_(parameter, -bound, bound, generator=generator)
        networks.append((f"random {number + 1}", other, digits_graph(other, "random", "1")))
    worst, cases = 0.0, []
    for label, network, graph in networks:
        runner = Runner(graph.model.SerializeToString(), graph.states)
        for batch, time in shapes:
            pixels = torch.rand(batch, time, generator=generator)
            difference = _difference(network, runner, pixels)
            cases.append(f"{label}, batch {batch}, time {time}: {difference:.1e}")
            worst = max(worst, difference)
    if not worst <= TOLERANCE:
        raise ExportError(
            f"the graph differs from PyTorch by {worst:.1e}, more than {TOLERANCE:.0e}; nothing was written. "
            "This is a defect of the exporter: please report it with the recipe. Cases: " + "; ".join(cases)
        )
    return Verification(max_difference=worst, tolerance=TOLERANCE, cases=cases)


@torch.no_grad()
def _difference(classifier: DigitClassifier, runner: Runner, pixels: torch.Tensor) -> float:
    logits, (h, c, _) = classifier.read(pixels)
    expected = logits.softmax(dim=-1).numpy()
    probabilities, trace, states = runner.run(pixels.numpy())
    # cell states grow with the length: their rounding does too
    scale = max(1.0, float(c.abs().max()))
    pairs = [
        (probabilities, expected[:, -1]),
        (trace, expected),
        (states["h"], h.transpose(0, 1).numpy()),
        (states["c"] / scale, c.transpose(0, 1).numpy() / scale),
    ]
    time = pixels.shape[1]
    if time > 1 and classifier.permutation is None:
        _, middle, carried = runner.run(pixels[:, : time // 2].numpy())
        _, rest, _ = runner.run(pixels[:, time // 2 :].numpy(), states=carried)
        pairs.append((np.concatenate([middle, rest], axis=1), expected))
    return max(float(np.abs(actual - wanted).max()) for actual, wanted in pairs)


def measure_exactness(runner: Runner, steps: int, streams: bool) -> Exactness:
    """Find out what holds bit for bit in onnxruntime here, by trying.

    Args:
        runner: the graph, with one thread.
        steps: pixels of an image.
        streams: whether the network can be fed in chunks at all.
    """
    pixels = np.random.default_rng(0).random((8, steps), np.float32)
    whole = runner.run(pixels)
    alone = [_same(_row(whole, i), runner.run(pixels[i : i + 1])) for i in range(len(pixels))]
    some = [_same(_row(whole, i), _row(runner.run(pixels[:n]), i)) for n in (2, 3, 5) for i in range(n)]
    batched = _promise(alone + some)
    if not streams:
        return Exactness(batched=batched, padded="impossible", streamed="impossible")
    lengths = [max(1, n) for n in (1, 2, steps // 8, steps // 4, steps // 2, steps - 2, steps - 1, steps)]
    cut = runner.run(pixels, lengths)
    padded = [
        _same(_row(cut, i, length), runner.run(pixels[i : i + 1, :length]))
        for i, length in enumerate(lengths)
    ]
    streamed = [_same(whole, _in_chunks(runner, pixels, size)) for size in (1, 5, 28, steps // 2)]
    return Exactness(batched=batched, padded=_promise(padded), streamed=_promise(streamed))


def _promise(same: list[bool]) -> Promise:
    return "bitwise" if all(same) else "rounding"


Result = tuple[Floats, Floats, States]


def _row(result: Result, index: int, length: int | None = None) -> Result:
    probabilities, trace, states = result
    row = slice(index, index + 1)
    return probabilities[row], trace[row, :length], {name: value[row] for name, value in states.items()}


def _same(a: Result, b: Result) -> bool:
    pairs = [(a[0], b[0]), (a[1], b[1]), *((a[2][name], b[2][name]) for name in a[2])]
    return all(np.array_equal(x, y) for x, y in pairs)


def _in_chunks(runner: Runner, pixels: Floats, size: int) -> Result:
    states, traces = runner.start(len(pixels)), []
    for start in range(0, pixels.shape[1], size):
        probabilities, trace, states = runner.run(pixels[:, start : start + size], states=states)
        traces.append(trace)
    return probabilities, np.concatenate(traces, axis=1), states
