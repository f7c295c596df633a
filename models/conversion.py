"""Between `torch.nn.LSTM` and `MomentumLSTM`."""

from __future__ import annotations

from typing import Any

from torch import nn

from models.accelerated import AcceleratedRNN
from models.layers import MomentumLSTM
from models.recurrences import LSTM


def momentum_from(
    lstm: nn.LSTM, mu: float = 0.0, epsilon: float = 1.0, learnable: bool = False
) -> MomentumLSTM:
    """A MomentumLSTM with a trained LSTM's weights; with mu = 0 and epsilon = 1 the same function.

    The filter amplifies what stays constant in time by `epsilon / (1 - mu)`: to keep the size of the drive
    that the weights were trained for, choose `epsilon = 1 - mu`.

    Args:
        lstm: not changed; its weights are copied, with their device and dtype.
        mu, epsilon, learnable: see `Momentum`.

    Raises:
        ValueError: mu or epsilon is out of range.
    """
    made = MomentumLSTM(**_shape(lstm), mu=mu, epsilon=epsilon, learnable=learnable)
    made.load_state_dict(lstm.state_dict(), strict=not learnable)
    return made.train(lstm.training)


def torch_lstm_from(layer: AcceleratedRNN) -> nn.LSTM:
    """The way back: a `torch.nn.LSTM` with the layer's weights, and no filter.

    The same function only if the filter is the identity: mu = 0 and epsilon = 1.

    Args:
        layer: a network with an LSTM inside; not changed.

    Raises:
        ValueError: the layer's recurrence is no LSTM.
    """
    if layer.recurrence is not LSTM:
        raise ValueError(f"expected a network with an LSTM inside, got {layer.recurrence.__name__}")
    made = nn.LSTM(**_shape(layer))
    weights = {name: value for name, value in layer.state_dict().items() if not name.startswith("filter.")}
    made.load_state_dict(weights)
    return made.train(layer.training)


def _shape(module: nn.LSTM | AcceleratedRNN) -> dict[str, Any]:
    names = (
        "input_size",
        "hidden_size",
        "num_layers",
        "bias",
        "batch_first",
        "dropout",
        "bidirectional",
        "proj_size",
    )
    weight = module.weight_ih_l0
    return {name: getattr(module, name) for name in names} | {"device": weight.device, "dtype": weight.dtype}
