"""MomentumLSTM: held to the step-by-step reference, and to torch.nn.LSTM's interface."""

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

from models import MomentumLSTM, unroll


@settings(deadline=None, max_examples=30)
@given(
    time=st.one_of(st.just(1), st.integers(1, 1000)),
    batch=st.integers(1, 5),
    inputs=st.integers(1, 4),
    hidden=st.integers(1, 12),
    mu=st.floats(0.0, 0.999),
    seed=st.integers(0, 2**31),
)
def test_fast_path_is_the_reference_in_float32(
    time: int, batch: int, inputs: int, hidden: int, mu: float, seed: int
) -> None:
    torch.manual_seed(seed)
    # epsilon = 1 - mu keeps the filter's gain at 1, so that the comparison is of rounding, not of saturation
    layer = MomentumLSTM(inputs, hidden, mu=mu, epsilon=1 - mu)
    x = torch.randn(time, batch, inputs)
    torch.testing.assert_close(layer(x)[0], torch.stack(unroll(layer, x)), rtol=0, atol=1e-5)


def test_gradients_of_the_fast_path_over_784_steps() -> None:
    torch.manual_seed(0)
    layer = MomentumLSTM(1, 32, mu=0.6, epsilon=0.6, dtype=torch.float64)
    x = torch.rand(784, 4, 1, dtype=torch.float64, requires_grad=True)
    wanted = torch.autograd.grad(torch.stack(unroll(layer, x)).square().sum(), [x, *layer.parameters()])
    actual = torch.autograd.grad(layer(x)[0].square().sum(), [x, *layer.parameters()])
    for a, b in zip(actual, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


CONFIGURATIONS: list[dict[str, Any]] = [
    {},
    {"bias": False},
    {"batch_first": True},
    {"num_layers": 3},
    {"bidirectional": True},
    {"num_layers": 2, "bidirectional": True},
    {"proj_size": 3},
    {"num_layers": 2, "bidirectional": True, "proj_size": 3, "batch_first": True, "bias": False},
]


@pytest.mark.parametrize("options", CONFIGURATIONS, ids=str)
def test_without_momentum_it_is_torch_lstm(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    theirs = torch.nn.LSTM(4, 6, dtype=torch.float64, **options)
    ours = MomentumLSTM(4, 6, dtype=torch.float64, mu=0.0, epsilon=1.0, **options)
    assert {n: p.shape for n, p in ours.named_parameters()} == {
        n: p.shape for n, p in theirs.named_parameters()
    }
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(5, 3, 4, dtype=torch.float64)
    rows = ours.num_layers * ours.directions
    batch = 5 if options.get("batch_first") else 3
    h, c = torch.randn(rows, batch, ours.output_size).double(), torch.randn(rows, batch, 6).double()
    for hx in (None, (h, c)):
        y, (h_n, c_n, _) = ours(x, hx)
        y_t, (h_t, c_t) = theirs(x, hx)
        torch.testing.assert_close((y, h_n, c_n), (y_t, h_t, c_t), rtol=1e-12, atol=1e-12)
    row = x[:, 0]
    y, (h_n, c_n, m_n) = ours(row)
    y_t, (h_t, c_t) = theirs(row)
    torch.testing.assert_close((y, h_n, c_n), (y_t, h_t, c_t), rtol=1e-12, atol=1e-12)
    assert m_n.dim() == 2
    lengths = torch.tensor([2, 5, 3])
    sequences = [torch.randn(int(n), 4, dtype=torch.float64) for n in lengths]
    packed = pack_sequence(sequences, enforce_sorted=False)
    y_p, (h_n, c_n, _) = ours(packed)
    y_t, (h_t, c_t) = theirs(packed)
    torch.testing.assert_close((y_p.data, h_n, c_n), (y_t.data, h_t, c_t), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bias": False}, {"proj_size": 3}], ids=str)
@pytest.mark.parametrize("cut", [1, 7, 19])
def test_chunked_is_whole(options: dict[str, Any], cut: int) -> None:
    torch.manual_seed(0)
    layer = MomentumLSTM(4, 6, mu=0.9, epsilon=0.4, dtype=torch.float64, **options)
    x = torch.randn(20, 3, 4, dtype=torch.float64)
    whole, last = layer(x)
    first, state = layer(x[:cut])
    second, state = layer(x[cut:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state, last, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", CONFIGURATIONS, ids=str)
def test_packed_is_each_sequence_alone(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = MomentumLSTM(4, 6, mu=0.9, epsilon=0.4, dtype=torch.float64, **options)
    sequences = [torch.randn(n, 4, dtype=torch.float64) for n in (3, 9, 1, 9)]
    state = tuple(torch.randn_like(s) for s in layer(torch.zeros(4, 4, 4, dtype=torch.float64))[1])
    y, last = layer(pack_sequence(sequences, enforce_sorted=False), state)
    padded, lengths = pad_packed_sequence(y)
    for i, sequence in enumerate(sequences):
        alone, after = layer(sequence, tuple(s[:, i] for s in state))
        torch.testing.assert_close(padded[: lengths[i], i], alone, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(tuple(s[:, i] for s in last), after, rtol=1e-12, atol=1e-12)


def test_bidirectional_layers_are_reference_cells() -> None:
    torch.manual_seed(0)
    layer = MomentumLSTM(4, 6, num_layers=2, bidirectional=True, mu=0.8, epsilon=0.5, dtype=torch.float64)
    x = torch.randn(20, 3, 4, dtype=torch.float64)
    y = x
    for number in range(2):
        forward = torch.stack(unroll(layer, y, f"_l{number}"))
        backward = torch.stack(unroll(layer, y.flip(0), f"_l{number}_reverse")).flip(0)
        y = torch.cat([forward, backward], dim=-1)
    torch.testing.assert_close(layer(x)[0], y, rtol=1e-12, atol=1e-12)


def test_dropout_acts_between_layers_in_training_only() -> None:
    torch.manual_seed(0)
    layer = MomentumLSTM(4, 6, num_layers=2, dropout=1.0, mu=0.0, epsilon=1.0)
    x = torch.randn(5, 3, 4)
    y, _ = layer(x)
    silent, _ = layer(torch.zeros_like(x))
    # everything between the layers is dropped, so the second one cannot tell the inputs apart
    torch.testing.assert_close(y, silent)
    layer.eval()
    assert not torch.allclose(layer(x)[0], layer(torch.zeros_like(x))[0])


def test_parameters_get_gradients_from_packed_input() -> None:
    layer = MomentumLSTM(4, 6, num_layers=2, bidirectional=True)
    x = torch.randn(7, 3, 4)
    y, _ = layer(pack_padded_sequence(x, torch.tensor([7, 4, 1])))
    y.data.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 0}, "hidden_size must be at least 1, got 0"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"dropout": 1.5}, "dropout must be in"),
        ({"proj_size": 6}, "proj_size must be in"),
        ({"mu": 1.0}, "mu must be in"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MomentumLSTM(**({"input_size": 4, "hidden_size": 6} | options))


def test_wrong_inputs_are_named() -> None:
    layer = MomentumLSTM(4, 6)
    with pytest.raises(ValueError, match=r"expected an input of shape .*4\], got \[5, 3, 2\]"):
        layer(torch.zeros(5, 3, 2))
    with pytest.raises(ValueError, match="at least one time step"):
        layer(torch.zeros(0, 3, 4))
    with pytest.raises(ValueError, match=r"state c of shape \[1, 3, 6\], got \[1, 2, 6\]"):
        layer(torch.zeros(5, 3, 4), (torch.zeros(1, 3, 6), torch.zeros(1, 2, 6)))
    with pytest.raises(ValueError, match=r"expected the state \(h, c, m\), or \(h, c\) alone, got 1"):
        layer(torch.zeros(5, 3, 4), (torch.zeros(1, 3, 6),))


def test_empty_batches_and_missing_time() -> None:
    layer = MomentumLSTM(4, 6, batch_first=True)
    y, (h, c, m) = layer(torch.zeros(0, 5, 4))
    assert [list(t.shape) for t in (y, h, c, m)] == [[0, 5, 6], [1, 0, 6], [1, 0, 6], [1, 0, 5]]
    with pytest.raises(ValueError, match="at least one time step"):
        layer(torch.zeros(0, 4))
    with pytest.raises(ValueError, match=r"packed data of width 4, got \[5, 3\]"):
        layer(pack_sequence([torch.zeros(3, 3), torch.zeros(2, 3)]))
    with pytest.raises(ValueError, match="expected states of 2 dimensions"):
        layer(torch.zeros(5, 4), (torch.zeros(1, 1, 6), torch.zeros(1, 1, 6)))


def test_a_state_without_m_starts_the_filter_anew() -> None:
    torch.manual_seed(0)
    layer = MomentumLSTM(4, 6, mu=0.9, epsilon=0.4)
    x, h, c = torch.randn(5, 3, 4), torch.randn(1, 3, 6), torch.randn(1, 3, 6)
    torch.testing.assert_close(layer(x, (h, c)), layer(x, (h, c, torch.zeros(1, 3, 5))))
    assert not torch.allclose(layer(x, (h, c))[0], layer(x, (h, c, torch.ones(1, 3, 5)))[0])


def test_it_is_a_module_like_any_other() -> None:
    layer = MomentumLSTM(4, 6, num_layers=2, bidirectional=True, mu=0.9, epsilon=0.4)
    x = torch.randn(5, 3, 4)
    for again in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(again(x), layer(x))
    layer.flatten_parameters()
    assert "4, 6, num_layers=2, bidirectional=True" in repr(layer)
    assert "mu=0.9, epsilon=0.4" in repr(layer)
    assert layer.to(torch.float64)(x.double())[0].dtype == torch.float64
    with pytest.warns(UserWarning, match="there is only one"):
        MomentumLSTM(4, 6, dropout=0.5)
