"""Is the graph the network? And what holds bit for bit?"""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt
import torch

from exports.card import Exactness, Promise, Verification
from exports.digits import Exported, digits_graph
from exports.errors import ExportError
from exports.session import Floats, Runner, States
from models import DigitClassifier

Result = tuple[Floats, Floats, States]

TOLERANCE = 1e-5
# Over many steps some networks amplify rounding, in PyTorch's float32 too (an orthogonal one jumps where
# modReLU does): past so many steps the graph may be off by so many times as much, both against float64.
SHORT = 8
ROUNDING = 32.0
RANDOM_WEIGHTS = 3


def verify(classifier: DigitClassifier, exported: Exported, steps: int) -> Verification:
    """Compare the graph with PyTorch: probabilities, every step of the trace, and the recurrence's states.

    A state is compared relative to its largest value where that is above 1. Several batch sizes and lengths
    with 1 among them; whole, continued in two chunks, padded and continued; with the trained weights and with
    random ones.

    Args:
        classifier: the network.
        exported: its graph.
        steps: pixels of an image.

    Raises:
        ExportError: some output differs by more than 1e-5; past 8 steps, by more than 1e-5 and more than 32
            times what PyTorch's own float32 does.
    """
    shapes = [(1, 1), (1, steps), (2, 3), (4, min(SHORT, steps)), (3, steps // 2), (5, steps)]
    generator = torch.Generator().manual_seed(0)
    networks = [("trained", classifier, exported)]
    for number in range(RANDOM_WEIGHTS):
        other = copy.deepcopy(classifier)
        other.permutation = None  # so that short sequences can be tried
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            other.rnn.reset_parameters()
            other.head.reset_parameters()
        networks.append((f"random {number + 1}", other, digits_graph(other, "random", "1")))
    worst, allowed, cases = 0.0, TOLERANCE, []
    for label, network, graph in networks:
        runner = Runner(graph.model.SerializeToString(), graph.states)
        exact = _in_float64(network)
        for batch, time in shapes if network.permutation is None else [(1, steps), (5, steps)]:
            pixels = torch.rand(batch, time, generator=generator)
            difference, rounding = _differences(network, exact, runner, pixels)
            tolerance = TOLERANCE if time <= SHORT else max(TOLERANCE, ROUNDING * rounding)
            case = (
                f"{label}, batch {batch}, time {time}: {difference:.1e} (PyTorch's float32: {rounding:.1e})"
            )
            cases.append(case)
            if not difference <= tolerance:
                raise ExportError(
                    f"the graph differs from PyTorch by {difference:.1e}, more than {tolerance:.1e}; nothing "
                    "was written. This is a defect of the exporter: please report it with the recipe. "
                    f"Cases: {'; '.join(cases)}"
                )
            if difference > worst:
                worst, allowed = difference, tolerance if difference > TOLERANCE else TOLERANCE
    return Verification(max_difference=worst, tolerance=allowed, cases=cases)


Outputs = list[npt.NDArray[np.float64]]


def _in_float64(network: DigitClassifier) -> DigitClassifier:
    """The same numbers as weights: an orthogonal matrix as float32 has it, not made anew."""
    rnn, exact = network.rnn, copy.deepcopy(network).double()
    weights = {
        suffix: {name: weight.detach().double() for name, weight in rnn.layer_weights(suffix).items()}
        for layer in range(rnn.num_layers)
        for suffix in rnn.suffixes(layer)
    }
    exact.rnn.layer_weights = lambda suffix: dict(weights[suffix])  # type: ignore[method-assign]
    return exact


@torch.no_grad()
def _differences(
    network: DigitClassifier, exact: DigitClassifier, runner: Runner, pixels: torch.Tensor
) -> tuple[float, float]:
    """How far the graph, whole, continued and padded, and PyTorch in float32, are from PyTorch in float64."""
    batch, time = pixels.shape
    expected = _outputs(exact, pixels)
    # cell states grow with the length, hidden states without a bound too: so does their rounding
    scales = [max(1.0, float(np.abs(value).max(initial=0.0))) for value in expected]

    def farthest(values: Outputs, rows: slice = slice(None), wanted: Outputs = expected) -> float:
        triples = zip(values, wanted, scales, strict=True)
        return max(float(np.abs(value[rows] - other).max()) / scale for value, other, scale in triples)

    differences = [farthest(_graph_outputs(network, runner.run(pixels.numpy())))]
    if time > 1 and network.permutation is None:
        _, middle, carried = runner.run(pixels[:, : time // 2].numpy())
        last, rest, states = runner.run(pixels[:, time // 2 :].numpy(), states=carried)
        continued = (last, np.concatenate([middle, rest], axis=1), states)
        differences.append(farthest(_graph_outputs(network, continued)))
        lengths = [1 + (row * (time - 1)) // max(1, batch - 1) for row in range(batch)]
        result = runner.run(pixels.numpy(), lengths)
        padded, padded_states = _graph_outputs(network, result), result[2]
        for row, length in enumerate(lengths):
            one = slice(row, row + 1)
            wanted = _outputs(exact, pixels[one, :length])
            cut = [padded[0], padded[1][:, :length], *padded[2:]]
            differences.append(farthest(cut, one, wanted))
            if length < time:
                row_states = {name: value[one] for name, value in padded_states.items()}
                ended = _graph_outputs(network, runner.run(pixels[one, length:].numpy(), states=row_states))
                whole = [expected[0][one], expected[1][one, length:], *(value[one] for value in expected[2:])]
                differences.append(farthest(ended, slice(None), whole))
    return max(differences), farthest(_outputs(network, pixels))


def _outputs(classifier: DigitClassifier, pixels: torch.Tensor) -> Outputs:
    """Last probabilities, the trace, and the recurrence's states, batch first."""
    logits, after = classifier.read(pixels.to(classifier.head.weight.dtype))
    trace = logits.softmax(dim=-1)
    states = [state.transpose(0, 1) for state in after[: len(classifier.rnn.recurrence.states)]]
    return [value.double().numpy() for value in (trace[:, -1], trace, *states)]


def _graph_outputs(network: DigitClassifier, result: Result) -> Outputs:
    probabilities, trace, states = result
    values = [probabilities, trace, *(states[name] for name in network.rnn.recurrence.states)]
    return [value.astype(np.float64) for value in values]


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
