"""The momentum filter."""

from __future__ import annotations

from torch import Tensor

from models.filters.base import FILTERS, Filter, State, last
from models.filters.scan import scan


@FILTERS.register("momentum")
class Momentum(Filter):
    """`m_t = mu m_{t-1} + epsilon u_t`.

    Source: Nguyen, Baraniuk, Bertozzi, Osher, Wang, "MomentumRNN: Integrating Momentum into Recurrent Neural
    Networks" (NeurIPS 2020), the momentum cell.

    Args:
        mu: momentum, 0 <= mu < 1.
        epsilon: step size, positive.
        learnable: train mu and epsilon too; they stay in (0, 1) and positive.

    Raises:
        ValueError: mu or epsilon is out of range.
    """

    linear = True
    states = ("m",)
    mu: float | Tensor
    epsilon: float | Tensor

    def __init__(self, mu: float = 0.6, epsilon: float = 0.6, learnable: bool = False) -> None:
        super().__init__()
        self.add_decay("mu", mu, learnable)
        self.add_rate("epsilon", epsilon, learnable)

    def step(self, u: Tensor, state: State) -> tuple[Tensor, State]:
        (m,) = state
        m = self.mu * m + self.epsilon * u
        return m, (m,)

    def forward(self, u: Tensor, state: State, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        m = scan(self.epsilon * u, state[0], self.mu)
        return m, (last(m, lengths),)
