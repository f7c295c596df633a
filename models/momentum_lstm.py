"""MomentumLSTM, the drop-in for `torch.nn.LSTM`."""

from __future__ import annotations

import torch

from models.accelerated import AcceleratedRNN


class MomentumLSTM(AcceleratedRNN):
    """An LSTM whose drive is accelerated by momentum: a drop-in for `torch.nn.LSTM`.

        v_t = mu v_{t-1} + epsilon (weight_ih x_t + bias_ih)
        i, f, g, o = v_t + weight_hh h_{t-1} + bias_hh
        c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)
        h_t = sigmoid(o) tanh(c_t)

    With mu = 0 and epsilon = 1 it *is* `torch.nn.LSTM`; a state dict of one loads into the other. The state
    is `(h, c, m)`, m being the filtered inputs (see `AcceleratedRNN.forward`).

    Source: Nguyen et al., "MomentumRNN: Integrating Momentum into Recurrent Neural Networks" (NeurIPS 2020),
    the MomentumLSTM.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device,
        dtype:
            as in `torch.nn.LSTM`.
        mu: momentum, 0 <= mu < 1.
        epsilon: step size, positive.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        mu: float = 0.6,
        epsilon: float = 0.6,
    ) -> None:
        super().__init__(
            "momentum",
            "lstm",
            input_size,
            hidden_size,
            num_layers=num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            proj_size=proj_size,
            device=device,
            dtype=dtype,
            filter_options={"mu": mu, "epsilon": epsilon},
        )
