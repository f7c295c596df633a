"""The model of the speech job."""

import itertools
import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import FILTERS, RECURRENCES, FrameModel

FAMILY = sorted(itertools.product(FILTERS, RECURRENCES))
# 20 samples a hop: many frames from few samples
SHORT = {"win_length": 50, "hop_length": 20, "n_fft": 64, "bands": 6, "low": 0.0}


def build(**options: Any) -> FrameModel:
    torch.manual_seed(0)
    model = FrameModel(3, **({"front_end_options": SHORT, "hidden_size": 4} | options)).double().eval()
    model.front_end.normalize_(torch.full((6,), -3.0), torch.full((6,), 2.0))
    return model


def waveform(batch: int, samples: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(samples)
    return 2.0 * torch.rand(batch, samples, generator=generator, dtype=torch.float64) - 1.0


@settings(max_examples=80)
@given(cell=st.sampled_from(FAMILY), layers=st.integers(1, 2), data=st.data())
def test_any_pieces_are_the_whole(cell: tuple[str, str], layers: int, data: st.DataObject) -> None:
    model = build(filter=cell[0], recurrence=cell[1], num_layers=layers)
    sizes = st.one_of(st.sampled_from([0, 1, 19, 20]), st.integers(0, 150))
    pieces = data.draw(st.lists(sizes, min_size=1, max_size=6))
    x = waveform(2, sum(pieces))
    whole, (samples, recurrent) = model(x)
    assert whole.shape == (2, sum(pieces) // 20, 3)
    state, parts = None, []
    for piece in x.split(pieces, dim=1):
        y, state = model(piece, state)
        parts.append(y)
    assert state is not None
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-9)
    torch.testing.assert_close(state, (samples, recurrent), rtol=1e-9, atol=1e-9)


def test_the_head_reads_the_recurrence_and_the_recurrence_the_front_end() -> None:
    model = build()
    x = waveform(2, 400)
    features, _ = model.front_end(x)
    h, _ = model.rnn(features.transpose(0, 1))
    expected = model.head(h).transpose(0, 1)
    assert torch.equal(model(x)[0], expected)
    assert torch.equal(model.read(features)[0], expected)


@pytest.mark.parametrize(("filter_", "recurrence"), FAMILY)
def test_config_builds_the_same_network_again(filter_: str, recurrence: str) -> None:
    model = build(filter=filter_, recurrence=recurrence, num_layers=2, initialization=None, longest=30)
    config = json.loads(json.dumps(model.config))  # plain values
    again = FrameModel(**config).double()
    again.load_state_dict(model.state_dict())
    x = waveform(2, 200)
    assert torch.equal(again(x)[0], model(x)[0])
    assert again.config == model.config


@pytest.mark.parametrize("front_end", ["log_mel", "log_magnitude_stft"])
def test_gradients_reach_every_parameter_and_the_waveform(front_end: str) -> None:
    torch.manual_seed(0)
    model = FrameModel(3, front_end=front_end, hidden_size=4)
    x = waveform(2, 1_000).float().requires_grad_()
    model(x)[0].square().sum().backward()
    for name, parameter in [("waveform", x), *model.named_parameters()]:
        assert parameter.grad is not None, name
        assert bool(parameter.grad.any()), name


def test_initialisations() -> None:
    authors = build(initialization="authors-timit").rnn
    for bias in (authors.bias_ih_l0, authors.bias_hh_l0):
        assert bias.tolist() == [0.0] * 4 + [-4.0] * 4 + [0.0] * 8
    assert build(initialization=None).config["initialization"] == "chrono"
    assert build(initialization=None, recurrence="gru").config["initialization"] == "torch"
    with pytest.raises(ValueError, match="the authors' initialisation is for the gates of an LSTM"):
        build(initialization="authors-timit", recurrence="orthogonal")
    with pytest.raises(KeyError, match="no front end is called 'mfcc'"):
        build(front_end="mfcc")
