"""The literal step-by-step cells: slow, plain, and what the fast paths are held to."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class MomentumLSTMCell(nn.Module):
    """One step of the MomentumLSTM, as the paper writes it; called like `torch.nn.LSTMCell`.

        v_t = mu v_{t-1} + epsilon (weight_ih x_t + bias_ih)
        i, f, g, o = v_t + weight_hh h_{t-1} + bias_hh
        c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)
        h_t = sigmoid(o) tanh(c_t)

    Source: Nguyen et al., "MomentumRNN: Integrating Momentum into Recurrent Neural Networks" (NeurIPS 2020),
    the MomentumLSTM.

    Args:
        input_size: width of x.
        hidden_size: width of h and c; v is four times as wide.
        mu: momentum, 0 <= mu < 1.
        epsilon: step size, positive.
    """

    def __init__(self, input_size: int, hidden_size: int, mu: float = 0.6, epsilon: float = 0.6) -> None:
        super().__init__()
        self.hidden_size, self.mu, self.epsilon = hidden_size, mu, epsilon
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias_ih = nn.Parameter(torch.empty(4 * hidden_size))
        self.bias_hh = nn.Parameter(torch.empty(4 * hidden_size))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(hidden_size), 1 / math.sqrt(hidden_size))

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x: [batch, input_size]; state and return: h [batch, H], c [batch, H], v [batch, 4 H]."""
        if state is None:
            zeros = x.new_zeros(len(x), self.hidden_size)
            state = (zeros, zeros, x.new_zeros(len(x), 4 * self.hidden_size))
        h, c, v = state
        u = x @ self.weight_ih.T + self.bias_ih
        v = self.mu * v + self.epsilon * u
        i, f, g, o = (v + h @ self.weight_hh.T + self.bias_hh).chunk(4, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, c, v


def unroll(cell: MomentumLSTMCell, x: Tensor) -> Tensor:
    """Call a cell step by step over `x` [time, batch, input_size]; returns every h, [time, batch,
    hidden_size].
    """
    outputs = []
    state = None
    for x_t in x:
        state = cell(x_t, state)
        outputs.append(state[0])
    return torch.stack(outputs)
