"""Every registered filter with every registered recurrence as a graph: against PyTorch, and in chunks."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exports.digits import DigitsSubject, digits_graph
from exports.errors import ExportError
from exports.exactness import measure_exactness
from exports.session import DigitsRunner, Floats
from exports.verification import verify
from models import FILTERS, RECURRENCES, DigitClassifier, Filter
from models.filters.base import State

FAMILY = sorted(itertools.product(FILTERS, RECURRENCES))
OPERATOR = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN", "orthogonal": "Scan"}
STEPS = 196
VARIANTS: list[tuple[str, str, dict[str, Any]]] = [
    *((filter_, recurrence, {}) for filter_, recurrence in FAMILY),
    ("momentum", "lstm", {"mu": 0.97, "epsilon": 0.05, "learnable": True}),
    ("momentum", "orthogonal", {"mu": 0.97, "epsilon": 0.05}),
    ("nesterov", "lstm", {"restart": 2, "epsilon": 0.7, "learnable": True}),
    ("nesterov", "gru", {"restart": None, "epsilon": 0.01}),
    ("adam", "lstm", {"mu": 0.3, "epsilon": 0.1, "beta": 0.999, "learnable": True}),
]


def images(size: int) -> Floats:
    """8 of them."""
    return np.random.default_rng(0).random((8, size), np.float32)


def build(filter_: str, recurrence: str, options: dict[str, Any], **more: Any) -> DigitClassifier:
    torch.manual_seed(0)
    return DigitClassifier(
        filter=filter_,
        recurrence=recurrence,
        filter_options=options,
        initialization="torch",
        **({"hidden_size": 12} | more),
    ).eval()


def graph_of(classifier: DigitClassifier) -> tuple[onnx.ModelProto, DigitsRunner]:
    exported = digits_graph(classifier, "digits", "1")
    return exported.model, DigitsRunner(exported.model.SerializeToString(), exported)


@pytest.mark.parametrize(("filter_", "recurrence", "options"), VARIANTS, ids=str)
def test_the_graph_is_the_network(filter_: str, recurrence: str, options: dict[str, Any]) -> None:
    for layers in (1, 2):
        classifier = build(filter_, recurrence, options, num_layers=layers)
        exported = digits_graph(classifier, "digits", "1")
        verification = verify(DigitsSubject(classifier, exported), STEPS)
        assert verification.max_difference <= verification.tolerance
        if recurrence == "lstm":
            assert verification.tolerance == 1e-5
        operators = [node.op_type for node in exported.model.graph.node]
        assert operators.count(OPERATOR[recurrence]) >= layers


@pytest.mark.parametrize(("filter_", "recurrence", "options"), VARIANTS, ids=str)
def test_streamed_is_whole_bit_for_bit(filter_: str, recurrence: str, options: dict[str, Any]) -> None:
    _, runner = graph_of(build(filter_, recurrence, options))
    exactness = measure_exactness(runner, images(STEPS))
    assert exactness.streamed == ("rounding" if options.get("mu", 0.6) > 0.92 else "bitwise")
    if not recurrence.startswith("rnn"):  # onnxruntime's RNN adds up a batch in another order than a row
        assert (exactness.batched, exactness.padded) == ("bitwise", "bitwise")


@settings(max_examples=40)
@given(variant=st.sampled_from(VARIANTS), layers=st.integers(1, 2), bias=st.booleans(), data=st.data())
def test_any_cut_of_any_lengths_streams(
    variant: tuple[str, str, dict[str, Any]], layers: int, bias: bool, data: st.DataObject
) -> None:
    classifier = build(*variant, num_layers=layers, hidden_size=5, bias=bias)
    _, runner = graph_of(classifier)
    lengths = data.draw(st.lists(st.integers(2, 90), min_size=1, max_size=4))
    pixels = torch.rand(len(lengths), max(lengths), generator=torch.Generator().manual_seed(sum(lengths)))
    probabilities, _, states = runner.run(pixels.numpy(), lengths)
    for row, length in enumerate(lengths):
        cut = data.draw(st.integers(1, length - 1))
        _, _, carried = runner.run(pixels[row : row + 1, :cut].numpy())
        last, _, after = runner.run(pixels[row : row + 1, cut:length].numpy(), states=carried)
        np.testing.assert_allclose(last, probabilities[row : row + 1], rtol=0, atol=1e-4)
        for name, value in after.items():
            np.testing.assert_allclose(value, states[name][row : row + 1], rtol=1e-3, atol=1e-3)


def test_only_what_the_next_states_need_is_repeated() -> None:
    model, _ = graph_of(build("adam", "lstm", {}))
    (scan,) = (node for node in model.graph.node if node.op_type == "Scan")
    body = next(attribute.g for attribute in scan.attribute if attribute.name == "body")
    assert sorted(node.op_type for node in body.node) == ["Add", "Add", "Identity", "Identity", "Mul", "Mul"]


@pytest.fixture
def registered() -> Iterator[dict[str, Any]]:
    """Filters of a test, out of the registry again afterwards."""
    before = set(FILTERS)
    entries: dict[str, Any] = FILTERS._entries
    yield entries
    for name in set(entries) - before:
        del entries[name]


@pytest.mark.usefixtures("registered")
def test_a_new_rule_is_exported_by_being_registered() -> None:
    @FILTERS.register("lookback")
    class Lookback(Filter):
        """Uses its state as it was as well."""

        states = ("p", "q")

        def step(self, u: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
            p, q = state
            gate = torch.tanh(u) / (1.0 + torch.exp(-u)) - 0.5 * torch.sigmoid(u)
            p = 0.9 * p + torch.square(u)
            q = torch.maximum(0.5 * q, abs(u)) - torch.minimum(u, p)
            return gate + p - state[0] + 3.0 / (1.0 + abs(q)).sqrt(), (p, q)

    classifier = build("lookback", "gru", {}, num_layers=2)
    exported = digits_graph(classifier, "digits", "1")
    assert verify(DigitsSubject(classifier, exported), STEPS).max_difference <= 1e-5
    runner = DigitsRunner(exported.model.SerializeToString(), exported)
    assert measure_exactness(runner, images(STEPS)).streamed == "bitwise"


STEPS_OF_ALL_KINDS: dict[str, tuple[int, Callable[..., Any]]] = {
    "first difference": (1, lambda u, s: (u - s[0], (u,))),
    "a state that no state is made from": (1, lambda u, s: (u + s[0], (torch.tanh(u),))),
    "an old state in the output alone": (2, lambda u, s: (u - s[1], (0.5 * s[0] + u, u))),
    "no state": (0, lambda u, s: (torch.tanh(u) ** 2, s)),
    "states that stay": (2, lambda u, s: (u + s[0], s)),
    "states that change places": (2, lambda u, s: (u + s[1], (s[1] + u, s[0]))),
    "a count that wraps": (1, lambda u, s: (u * s[0], (torch.remainder(s[0] - 1.0, 3.0),))),
    "the output is a constant": (1, lambda u, s: (0.0 * u, (0.9 * s[0] + u,))),
}


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("kind", STEPS_OF_ALL_KINDS)
@pytest.mark.parametrize("recurrence", ["gru", "orthogonal"])
def test_steps_of_all_kinds(kind: str, recurrence: str) -> None:
    count, function = STEPS_OF_ALL_KINDS[kind]

    @FILTERS.register("kind")
    class Kind(Filter):
        states = ("p", "q")[:count]

        def step(self, u: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
            result: tuple[torch.Tensor, State] = function(u, state)
            return result

    classifier = build("kind", recurrence, {}, num_layers=2)
    exported = digits_graph(classifier, "digits", "1")
    verify(DigitsSubject(classifier, exported), 40)
    runner = DigitsRunner(exported.model.SerializeToString(), exported)
    exactness = measure_exactness(runner, images(40))
    assert (exactness.padded, exactness.streamed) == ("bitwise", "bitwise")


UNSAYABLE: dict[str, Callable[..., Any]] = {
    "chunk along dim 1": lambda u: u.chunk(2, dim=1)[0],
    "the operation gt": lambda u: u * (u > 0),
    "the operation add .* with these arguments": lambda u: torch.add(u, u, alpha=2),
}


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("message", UNSAYABLE)
def test_what_has_no_form_is_named(message: str) -> None:
    @FILTERS.register("unsayable")
    class Unsayable(Filter):
        states = ()

        def step(self, u: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
            result: torch.Tensor = UNSAYABLE[message](u)
            return result, state

    with pytest.raises(ExportError, match=message):
        graph_of(build("unsayable", "gru", {}))


@pytest.mark.usefixtures("registered")
def test_a_step_that_onnx_cannot_say_is_named() -> None:
    @FILTERS.register("sorting")
    class Sorting(Filter):
        states = ()

        def step(self, u: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
            return torch.sort(u, dim=-1).values, state

    with pytest.raises(ExportError, match="the operation sort in a step has no ONNX form; known: abs, add"):
        graph_of(build("sorting", "gru", {}))
