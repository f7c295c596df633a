"""The paper's cells by name, drop-ins for `torch.nn.LSTM`.

Every class takes `input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device,
dtype` as `torch.nn.LSTM` does (those with an LSTM inside `proj_size` too), and its filter's options as
keywords. It is called like it; the state it returns goes on with the filter's states (see
`AcceleratedRNN.forward`).

Source of the family: Nguyen, Baraniuk, Bertozzi, Osher, Wang, "MomentumRNN: Integrating Momentum into
Recurrent Neural Networks" (NeurIPS 2020).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch

from models.accelerated import AcceleratedRNN


class _Named(AcceleratedRNN):
    """An `AcceleratedRNN` whose filter and recurrence are fixed by its class."""

    filter_name: ClassVar[str]
    recurrence_name: ClassVar[str]

    def __init_subclass__(cls, filter: str = "", recurrence: str = "", **kwargs: Any) -> None:  # noqa: A002
        super().__init_subclass__(**kwargs)
        if filter:
            cls.filter_name, cls.recurrence_name = filter, recurrence

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
        **filter_options: Any,
    ) -> None:
        super().__init__(
            self.filter_name,
            self.recurrence_name,
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
            filter_options=filter_options,
        )


class MomentumLSTM(_Named, filter="momentum", recurrence="lstm"):
    """An LSTM whose drive is accelerated by momentum.

        v_t = mu v_{t-1} + epsilon (weight_ih x_t + bias_ih)
        i, f, g, o = v_t + weight_hh h_{t-1} + bias_hh
        c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)
        h_t = sigmoid(o) tanh(c_t)

    With mu = 0 and epsilon = 1 it *is* `torch.nn.LSTM`; a state dict of one loads into the other. Options:
    see `Momentum`. State (h, c, m), m being the filtered inputs.
    """


class NesterovLSTM(_Named, filter="nesterov", recurrence="lstm"):
    """An LSTM whose drive is accelerated by Nesterov's rule with scheduled restart, the paper's SRLSTM.

    As `MomentumLSTM` with v_t = k / (k + 3) v_{t-1} + epsilon u_t, k = t mod restart. Options: see
    `Nesterov`. State (h, c, m, k).
    """


SRLSTM = NesterovLSTM


class AdamLSTM(_Named, filter="adam", recurrence="lstm"):
    """An LSTM whose drive is accelerated as Adam accelerates a gradient.

    As `MomentumLSTM` with v_t / sqrt(s_t + 1e-16) for v_t, s_t = beta s_{t-1} + (1 - beta) u_t^2. Options:
    see `Adam`. State (h, c, v, s), the last two 4 hidden_size wide.
    """


class RMSPropLSTM(_Named, filter="rmsprop", recurrence="lstm"):
    """`AdamLSTM` with mu = 0. Options: see `RMSProp`. State (h, c, s)."""


class MomentumGRU(_Named, filter="momentum", recurrence="gru"):
    """A GRU (`torch.nn.GRU`'s) whose drive is accelerated by momentum. Options: see `Momentum`. State
    (h, m).
    """


class MomentumRNN(AcceleratedRNN):
    """An Elman network (`torch.nn.RNN`'s) whose drive is accelerated by momentum.

        v_t = mu v_{t-1} + epsilon (weight_ih x_t + bias_ih)
        h_t = tanh(v_t + weight_hh h_{t-1} + bias_hh)

    Options: see `Momentum`. State (h, m).

    Args:
        nonlinearity: "tanh" or "relu"; the other arguments are `torch.nn.RNN`'s.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **filter_options: Any,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
        super().__init__(
            "momentum",
            f"rnn_{nonlinearity}",
            input_size,
            hidden_size,
            num_layers=num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            device=device,
            dtype=dtype,
            filter_options=filter_options,
        )


class DTRIV(_Named, filter="identity", recurrence="orthogonal"):
    """A network with an orthogonal recurrent matrix and modReLU, trained by (dynamic) trivialization.

        h_t = modReLU(weight_ih x_t + h_{t-1} weight_hh),  modReLU(z) = sign(z) relu(|z| + bias_modrelu)

    As its authors have it, make it with `bias=False`: no bias on the input. Call `rebase_` every K optimizer
    steps, and give `orthogonal_parameters` a smaller learning rate. State (h).

    Source: Lezcano-Casado, "Trivializations for Gradient-Based Optimization on Manifolds" (NeurIPS 2019).
    """


class MomentumDTRIV(_Named, filter="momentum", recurrence="orthogonal"):
    """`DTRIV` whose drive is accelerated by momentum. Options: see `Momentum`. State (h, m)."""


class NesterovDTRIV(_Named, filter="nesterov", recurrence="orthogonal"):
    """`DTRIV` whose drive is accelerated by Nesterov's rule with restart. Options: see `Nesterov`. State (h,
    m, k).
    """


class AdamDTRIV(_Named, filter="adam", recurrence="orthogonal"):
    """`DTRIV` whose drive is accelerated as Adam does. Options: see `Adam`. State (h, v, s)."""


class RMSPropDTRIV(_Named, filter="rmsprop", recurrence="orthogonal"):
    """`AdamDTRIV` with mu = 0. Options: see `RMSProp`. State (h, s)."""
