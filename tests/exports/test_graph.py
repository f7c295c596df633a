"""The graph against PyTorch, and against itself: alone, padded, in chunks."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exports.builder import GraphBuilder
from exports.digits import DigitsSubject, digits_graph
from exports.errors import ExportError
from exports.exactness import measure_exactness
from exports.filters import MomentumCarried, MomentumWindow, NesterovWindow, ScanForm, form_of
from exports.recurrences import states_of
from exports.session import DigitsRunner, Floats
from exports.verification import verify
from models import AcceleratedRNN, Adam, DigitClassifier, Filter, Momentum, Nesterov

NETWORKS: list[dict[str, Any]] = [
    {"hidden_size": 16},
    {"hidden_size": 7, "num_layers": 2},
    {"hidden_size": 16, "filter_options": {"mu": 0.0, "epsilon": 1.0}},
    {"hidden_size": 16, "filter_options": {"mu": 0.3, "epsilon": 0.3}},
    {"hidden_size": 16, "filter_options": {"mu": 0.97, "epsilon": 0.1}},
    {"hidden_size": 5, "num_layers": 3, "filter_options": {"mu": 0.999, "epsilon": 0.01}},
]


def images(size: int) -> Floats:
    """8 of them."""
    return np.random.default_rng(0).random((8, size), np.float32)


def subject(classifier: DigitClassifier) -> DigitsSubject:
    return DigitsSubject(classifier, digits_graph(classifier, "digits", "1"))


def build(options: dict[str, Any]) -> tuple[DigitClassifier, DigitsRunner]:
    torch.manual_seed(0)
    classifier = DigitClassifier(longest=100, **options).eval()
    exported = digits_graph(classifier, "digits", "1")
    return classifier, DigitsRunner(exported.model.SerializeToString(), exported)


@pytest.mark.parametrize("options", NETWORKS, ids=str)
def test_verification_passes(options: dict[str, Any]) -> None:
    classifier, _ = build(options)
    verification = verify(subject(classifier), 784)
    assert verification.max_difference <= 1e-5
    assert len(verification.cases) == 24


def test_verification_finds_a_wrong_graph() -> None:
    classifier, _ = build({"hidden_size": 16})
    exported = digits_graph(classifier, "digits", "1")
    with torch.no_grad():
        classifier.rnn.weight_hh_l0[3, 3] += 0.01
    with pytest.raises(ExportError, match=r"differs from PyTorch by .* nothing was written"):
        verify(DigitsSubject(classifier, exported), 784)


def take_the_last_time_step(graph: GraphBuilder, initial: str, sequence: str, lengths: str) -> str:
    """As if no row were padded."""
    del initial, lengths
    return graph.op("Squeeze", graph.slice_time(sequence, -1), graph.axes(0))


@pytest.mark.parametrize("recurrence", ["lstm", "orthogonal"])
def test_verification_finds_states_past_the_lengths(recurrence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"filter": "adam", "recurrence": recurrence, "initialization": "torch"}
    classifier = DigitClassifier(hidden_size=8, **options).eval()
    verify(subject(classifier), 40)
    monkeypatch.setattr("exports.scans.last_of", take_the_last_time_step)
    with pytest.raises(ExportError, match="differs from PyTorch"):
        verify(subject(classifier), 40)


def test_rounding_is_allowed_for_but_not_on_short_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if PyTorch's float32 rounded so much, and the graph were off by as much as given."""
    classifier = DigitClassifier(hidden_size=8).eval()
    small = subject(classifier)

    def differ(short: float, long: float, rounding: float) -> None:
        monkeypatch.setattr(
            "exports.verification._differences",
            lambda *arguments: (short if arguments[-1].shape[1] <= 8 else long, rounding),
        )

    differ(1e-6, 3e-3, 1e-4)
    assert verify(small, 40).tolerance == pytest.approx(32e-4)
    differ(1e-6, 4e-3, 1e-4)
    with pytest.raises(ExportError, match=r"by 4\.0e-03, more than 3\.2e-03"):
        verify(small, 40)
    differ(2e-5, 1e-6, 1e-4)
    with pytest.raises(ExportError, match=r"by 2\.0e-05, more than 1\.0e-05"):
        verify(small, 40)


def test_verification_finds_a_forgotten_filter_state(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = DigitClassifier(hidden_size=8, filter="nesterov").eval()
    monkeypatch.setattr(
        "exports.filters.rows_before", lambda graph, history, *_: graph.slice_time(history, 0, 63)
    )
    with pytest.raises(ExportError, match="differs from PyTorch"):
        verify(subject(classifier), 40)


@pytest.mark.parametrize("options", NETWORKS, ids=str)
def test_what_holds_bit_for_bit(options: dict[str, Any]) -> None:
    _, runner = build(options)
    exactness = measure_exactness(runner, images(784))
    assert (exactness.batched, exactness.padded) == ("bitwise", "bitwise")
    long_memory = options.get("filter_options", {}).get("mu", 0.6) > 0.92
    assert exactness.streamed == ("rounding" if long_memory else "bitwise")


@settings(deadline=None, max_examples=40)
@given(data=st.data(), mu=st.sampled_from([0.0, 0.5, 0.6, 0.9, 0.99]), layers=st.integers(1, 2))
def test_any_cut_of_any_lengths_streams(data: st.DataObject, mu: float, layers: int) -> None:
    classifier, runner = build(
        {"hidden_size": 5, "num_layers": layers, "filter_options": {"mu": mu, "epsilon": 0.5}}
    )
    lengths = data.draw(st.lists(st.integers(2, 90), min_size=1, max_size=4))
    generator = torch.Generator().manual_seed(sum(lengths))
    pixels = torch.rand(len(lengths), max(lengths), generator=generator)
    probabilities, _, states = runner.run(pixels.numpy(), lengths)
    for row, length in enumerate(lengths):
        cut = data.draw(st.integers(1, length - 1))
        _, _, carried = runner.run(pixels[row : row + 1, :cut].numpy())
        last, _, after = runner.run(pixels[row : row + 1, cut:length].numpy(), states=carried)
        with torch.no_grad():
            wanted = classifier(pixels[row : row + 1, :length]).softmax(dim=-1).numpy()
        np.testing.assert_allclose(probabilities[row : row + 1], wanted, rtol=0, atol=1e-5)
        np.testing.assert_allclose(last, wanted, rtol=0, atol=1e-5)
        for name, value in after.items():
            # with mu = 0.99 a filter's state grows to 50, and float32 rounds in proportion
            np.testing.assert_allclose(value, states[name][row : row + 1], rtol=1e-5, atol=1e-5)


def test_a_permutation_is_inside_the_graph() -> None:
    torch.manual_seed(0)
    classifier = DigitClassifier(hidden_size=8, permutation=torch.randperm(64).tolist())
    exported = digits_graph(classifier, "digits", "1")
    assert exported.inputs[0].shape == ["batch", 64]
    assert verify(DigitsSubject(classifier, exported), 64).max_difference <= 1e-5


def test_shapes_are_dynamic_and_the_operator_is_lstm() -> None:
    exported = digits_graph(DigitClassifier(hidden_size=8), "digits", "3")
    assert [node.op_type for node in exported.model.graph.node].count("LSTM") == 1
    dimensions = [d.dim_param for d in exported.model.graph.input[0].type.tensor_type.shape.dim]
    assert dimensions == ["batch", "time"]
    assert {p.key: p.value for p in exported.model.metadata_props} == {"name": "digits", "version": "3"}


@pytest.mark.parametrize(("mu", "window"), [(0.0, 0), (0.3, 31), (0.6, 63), (0.9, 255)])
def test_short_memories_get_a_window(mu: float, window: int) -> None:
    form = form_of(Momentum(mu, 0.5))
    assert isinstance(form, MomentumWindow)
    assert form.window == window
    # what lies before the window weighs less than float32 can tell
    assert mu ** (window + 1) < 2.0**-24


def test_long_memories_are_carried() -> None:
    assert isinstance(form_of(Momentum(0.93)), MomentumCarried)


@pytest.mark.parametrize(("restart", "window"), [(1, 0), (2, 1), (8, 7), (40, 63), (256, 255)])
def test_short_periods_get_a_window(restart: int, window: int) -> None:
    form = form_of(Nesterov(restart=restart))
    assert isinstance(form, NesterovWindow)
    assert form.window == window >= restart - 1


@pytest.mark.parametrize("filter_", [Nesterov(restart=None), Nesterov(restart=257), Adam()])
def test_everything_else_repeats_its_step(filter_: Filter) -> None:
    assert isinstance(form_of(filter_), ScanForm)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bidirectional": True}, "bidirectional network cannot be exported"),
        ({"proj_size": 2}, "no projection"),
    ],
)
def test_what_onnx_cannot_say_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        states_of(AcceleratedRNN("momentum", "lstm", 1, 4, **options))
