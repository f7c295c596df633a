"""The paper's cells by name."""

import inspect
from typing import Any

import pytest
import torch

import models
from models import (
    FILTERS,
    RECURRENCES,
    SRLSTM,
    AcceleratedRNN,
    AdamLSTM,
    MomentumGRU,
    MomentumLSTM,
    MomentumRNN,
    NesterovLSTM,
    momentum_from,
    torch_lstm_from,
)

NAMED: dict[str, tuple[str, str]] = {
    "MomentumRNN": ("momentum", "rnn_tanh"),
    "MomentumLSTM": ("momentum", "lstm"),
    "MomentumGRU": ("momentum", "gru"),
    "NesterovLSTM": ("nesterov", "lstm"),
    "AdamLSTM": ("adam", "lstm"),
    "RMSPropLSTM": ("rmsprop", "lstm"),
    "DTRIV": ("identity", "orthogonal"),
    "MomentumDTRIV": ("momentum", "orthogonal"),
    "NesterovDTRIV": ("nesterov", "orthogonal"),
    "AdamDTRIV": ("adam", "orthogonal"),
    "RMSPropDTRIV": ("rmsprop", "orthogonal"),
}
LAYERS = {name: getattr(models, name) for name in NAMED}


@pytest.mark.parametrize("name", NAMED)
def test_names_are_what_they_say(name: str) -> None:
    filter_, recurrence = NAMED[name]
    layer = LAYERS[name](3, 4, 2, batch_first=True, bidirectional=True, dtype=torch.float64)
    assert type(layer.filter) is FILTERS[filter_]
    assert layer.recurrence is RECURRENCES[recurrence]
    y, _ = layer(torch.zeros(5, 7, 3, dtype=torch.float64))
    assert y.shape == (5, 7, 8)


@pytest.mark.parametrize("name", NAMED)
def test_signatures_are_torchs(name: str) -> None:
    """Every argument of torch.nn.LSTM (or RNN), in its order, and the options of the filter as keywords."""
    theirs = ["input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional"]
    if name == "MomentumRNN":
        theirs.insert(3, "nonlinearity")
    else:
        theirs.append("proj_size")
    ours = [
        parameter.name
        for parameter in inspect.signature(LAYERS[name]).parameters.values()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    assert ours == [*theirs, "device", "dtype"]
    with pytest.raises(TypeError, match="no_such_option"):
        LAYERS[name](3, 4, no_such_option=1)


def test_srlstm_is_nesterov() -> None:
    assert SRLSTM is NesterovLSTM


@pytest.mark.parametrize(
    ("make", "theirs"),
    [
        (MomentumGRU, torch.nn.GRU),
        (MomentumRNN, torch.nn.RNN),
        (
            lambda *a, **o: MomentumRNN(*a, nonlinearity="relu", **o),
            lambda *a, **o: torch.nn.RNN(*a, nonlinearity="relu", **o),
        ),
    ],
    ids=["gru", "tanh", "relu"],
)
def test_without_momentum_they_are_torchs(make: Any, theirs: Any, either_way: str) -> None:
    del either_way
    torch.manual_seed(0)
    for options in ({}, {"bias": False}, {"num_layers": 2, "bidirectional": True}):
        expected = theirs(4, 6, dtype=torch.float64, **options)
        layer = make(4, 6, dtype=torch.float64, mu=0.0, epsilon=1.0, **options)
        layer.load_state_dict(expected.state_dict())
        x = torch.randn(9, 3, 4, dtype=torch.float64)
        y, (h, _) = layer(x)
        torch.testing.assert_close((y, h), expected(x), rtol=1e-12, atol=1e-12)


def test_only_an_lstm_projects() -> None:
    layer = AdamLSTM(3, 6, proj_size=2)
    y, (h, c, v, s) = layer(torch.randn(5, 4, 3))
    assert [t.shape[-1] for t in (y, h, c, v, s)] == [2, 2, 6, 24, 24]
    with pytest.raises(ValueError, match="proj_size is for LSTMs; the recurrence 'gru' has no projection"):
        MomentumGRU(3, 6, proj_size=2)
    with pytest.raises(ValueError, match="nonlinearity must be 'tanh' or 'relu', got 'gelu'"):
        MomentumRNN(3, 6, nonlinearity="gelu")  # type: ignore[arg-type]


def test_learnable_rates_are_trained_and_saved() -> None:
    torch.manual_seed(0)
    layer = MomentumLSTM(3, 6, mu=0.5, epsilon=0.5, learnable=True, dtype=torch.float64)
    fixed = MomentumLSTM(3, 6, mu=0.5, epsilon=0.5, dtype=torch.float64)
    assert not [name for name in fixed.state_dict() if name.startswith("filter.")]
    x = torch.randn(9, 2, 3, dtype=torch.float64)
    fixed.load_state_dict(layer.state_dict(), strict=False)
    torch.testing.assert_close(layer(x)[0], fixed(x)[0])
    layer(x)[0].square().sum().backward()
    rates = [p for name, p in layer.named_parameters() if name.startswith("filter.")]
    assert [p.grad is not None and bool(p.grad) for p in rates] == [True, True]
    torch.optim.SGD(layer.parameters(), lr=0.1).step()
    again = MomentumLSTM(3, 6, learnable=True, dtype=torch.float64)
    again.load_state_dict(layer.state_dict())
    torch.testing.assert_close(again(x), layer(x))
    assert not torch.allclose(layer(x)[0], fixed(x)[0])


OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
    {"bias": False, "proj_size": 2},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_from_a_trained_lstm_and_back(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(4, 6, dtype=torch.float64, **options).eval()
    x = torch.randn(5, 3, 4, dtype=torch.float64)
    expected, (h, c) = lstm(x)
    made = momentum_from(lstm)
    assert not made.training
    y, (h_n, c_n, _) = made(x)
    torch.testing.assert_close((y, h_n, c_n), (expected, h, c), rtol=1e-12, atol=1e-12)
    back = torch_lstm_from(made)
    assert all(torch.equal(back.state_dict()[name], value) for name, value in lstm.state_dict().items())
    accelerated = momentum_from(lstm, mu=0.6, epsilon=0.4, learnable=True)
    reference = MomentumLSTM(4, 6, dtype=torch.float64, mu=0.6, epsilon=0.4, **options)
    reference.load_state_dict(lstm.state_dict())
    torch.testing.assert_close(accelerated(x), reference(x))
    torch.testing.assert_close(torch_lstm_from(accelerated)(x)[0], expected)
    # a copy: training the one leaves the other alone
    with torch.no_grad():
        accelerated.get_parameter("weight_hh_l0").zero_()
    torch.testing.assert_close(lstm(x)[0], expected)


def test_only_an_lstm_goes_back() -> None:
    with pytest.raises(ValueError, match="expected a network with an LSTM inside, got GRU"):
        torch_lstm_from(MomentumGRU(3, 4))
    with pytest.raises(KeyError, match=r"no recurrence is called 'mlp'; known: gru, lstm"):
        AcceleratedRNN("momentum", "mlp", 3, 4)
