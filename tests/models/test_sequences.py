"""The sequence model."""

from typing import Any

import pytest
import torch
from torch.nn.functional import one_hot

from models import SequenceModel

LSTM = {"filter": "momentum", "filter_options": {"mu": 0.5, "epsilon": 0.2}, "longest": 20}
DTRIV = {"filter": "identity", "recurrence": "orthogonal", "bias": False}


def test_symbols_are_read_one_hot() -> None:
    torch.manual_seed(0)
    model = SequenceModel(5, 3, hidden_size=4)
    symbols = torch.randint(5, (2, 7))
    outputs = model(symbols)
    assert outputs.shape == (2, 7, 3)
    assert torch.equal(outputs, model(one_hot(symbols, 5).float()))


def test_a_step_depends_on_the_past_alone() -> None:
    torch.manual_seed(0)
    model = SequenceModel(2, 1, hidden_size=4, filter="momentum")
    x = torch.rand(3, 9, 2)
    later = x.clone()
    later[:, 5:] = 0.0
    before, after = model(x), model(later)
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.equal(before[:, 5:], after[:, 5:])


@pytest.mark.parametrize("options", [LSTM, DTRIV])
def test_config_builds_the_same_network_again(options: dict[str, Any]) -> None:
    model = SequenceModel(2, 3, hidden_size=4, num_layers=2, **options)
    again = SequenceModel(**model.config)
    again.load_state_dict(model.state_dict())
    x = torch.rand(2, 5, 2)
    assert torch.equal(again(x), model(x))


def test_an_initialisation_for_other_networks_is_refused() -> None:
    with pytest.raises(ValueError, match="chrono initialisation is for the gates of an LSTM"):
        SequenceModel(2, 3, recurrence="rnn_tanh", initialization="chrono")
