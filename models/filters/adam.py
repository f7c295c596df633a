"""The adaptive filters: a drive divided by its own recent size."""

from __future__ import annotations

import torch
from torch import Tensor

from models import kernels
from models.filters.base import FILTERS, Filter, State, last
from models.filters.scan import scan

TINY = 1e-16  # inside the root, as the authors have it


@FILTERS.register("adam")
class Adam(Filter):
    """`v_t = mu v_{t-1} + epsilon u_t`, `s_t = beta s_{t-1} + (1 - beta) u_t^2`, output `v_t / sqrt(s_t +
    1e-16)`.

    Source: Nguyen et al., "MomentumRNN: Integrating Momentum into Recurrent Neural Networks" (NeurIPS 2020),
    the Adam cell.

    Args:
        mu: momentum, 0 <= mu < 1.
        epsilon: step size, positive.
        beta: decay of the mean square, 0 <= beta < 1.
        learnable: train mu and epsilon too; they stay in (0, 1) and positive.

    Raises:
        ValueError: mu, epsilon or beta is out of range.
    """

    states = ("v", "s")
    mu: float | Tensor
    epsilon: float | Tensor
    beta: float

    def __init__(
        self, mu: float = 0.6, epsilon: float = 0.6, beta: float = 0.1, learnable: bool = False
    ) -> None:
        super().__init__()
        self.add_decay("mu", mu, learnable)
        self.add_rate("epsilon", epsilon, learnable)
        self.add_decay("beta", beta)

    def step(self, u: Tensor, state: State) -> tuple[Tensor, State]:
        v, s = state
        v = self.mu * v + self.epsilon * u
        s = self.beta * s + (1 - self.beta) * (u * u)
        return v / (s + TINY).sqrt(), (v, s)

    def forward(self, u: Tensor, state: State, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        v0, s0 = state
        if kernels.adam.can_run(u, v0, s0):
            return kernels.adam.adam(u, (v0, s0), lengths, self.mu, self.epsilon, self.beta, TINY)
        wide = u.to(torch.promote_types(u.dtype, torch.float32))  # squares, and 1e-16, are too much for half
        v = scan(self.epsilon * wide, v0, self.mu)
        s = scan((1 - self.beta) * (wide * wide), s0, self.beta)
        output = (v / (s + TINY).sqrt()).to(u.dtype)
        return output, (last(v, lengths).to(v0.dtype), last(s, lengths).to(s0.dtype))


@FILTERS.register("rmsprop")
class RMSProp(Filter):
    """`s_t = beta s_{t-1} + (1 - beta) u_t^2`, output `epsilon u_t / sqrt(s_t + 1e-16)`: Adam with mu = 0.

    Source: Nguyen et al., "MomentumRNN: Integrating Momentum into Recurrent Neural Networks" (NeurIPS 2020),
    the RMSProp cell.

    Args:
        epsilon: step size, positive.
        beta: decay of the mean square, 0 <= beta < 1.
        learnable: train epsilon too; it stays positive.

    Raises:
        ValueError: epsilon or beta is out of range.
    """

    states = ("s",)
    epsilon: float | Tensor
    beta: float

    def __init__(self, epsilon: float = 0.6, beta: float = 0.9, learnable: bool = False) -> None:
        super().__init__()
        self.add_rate("epsilon", epsilon, learnable)
        self.add_decay("beta", beta)

    def step(self, u: Tensor, state: State) -> tuple[Tensor, State]:
        (s,) = state
        s = self.beta * s + (1 - self.beta) * (u * u)
        return self.epsilon * u / (s + TINY).sqrt(), (s,)

    def forward(self, u: Tensor, state: State, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        (s0,) = state
        if kernels.adam.can_run(u, s0):
            v0 = s0.new_zeros(()).expand_as(s0)
            output, (_, s) = kernels.adam.adam(u, (v0, s0), lengths, 0.0, self.epsilon, self.beta, TINY)
            return output, (s,)
        wide = u.to(torch.promote_types(u.dtype, torch.float32))
        s = scan((1 - self.beta) * (wide * wide), s0, self.beta)
        output = (self.epsilon * wide / (s + TINY).sqrt()).to(u.dtype)
        return output, (last(s, lengths).to(s0.dtype),)
