"""Nesterov's filter with scheduled restart."""

from __future__ import annotations

import torch
from torch import Tensor

from models.filters.base import FILTERS, Filter, State, last
from models.filters.scan import scan_varying


@FILTERS.register("nesterov")
class Nesterov(Filter):
    """`m_t = k / (k + 3) m_{t-1} + epsilon u_t`, with k counting from 0 and starting anew every `restart`
    steps.

    Source: Nguyen et al., "MomentumRNN: Integrating Momentum into Recurrent Neural Networks" (NeurIPS 2020),
    the Nesterov accelerated cell with scheduled restart. (For LSTMs the authors' code extrapolates the
    recurrent product too, which is no filter of the input; this class follows the paper.)

    The state is m and k, [batch, 1]: rows of one batch may stand at different places of the schedule.

    Args:
        epsilon: step size, positive.
        restart: steps of a period, at least 1; None never restarts.
        learnable: train epsilon too; it stays positive.

    Raises:
        ValueError: epsilon or restart is out of range.
    """

    linear = True
    states = ("m", "k")
    epsilon: float | Tensor

    def __init__(self, epsilon: float = 1.0, restart: int | None = 40, learnable: bool = False) -> None:
        super().__init__()
        if restart is not None and restart < 1:
            raise ValueError(f"restart must be at least 1 step, or None for never, got {restart}")
        self.add_rate("epsilon", epsilon, learnable)
        self.restart = restart

    def state_sizes(self, channels: int) -> dict[str, int]:
        return {"m": channels, "k": 1}

    def step(self, u: Tensor, state: State) -> tuple[Tensor, State]:
        m, k = state
        m = k / (k + 3) * m + self.epsilon * u
        return m, (m, self._wrap(k + 1))

    def forward(self, u: Tensor, state: State, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        m, k = state
        # counted in float32 at least: bfloat16 ends at 256
        steps = torch.arange(len(u) + 1, dtype=torch.promote_types(k.dtype, torch.float32), device=k.device)
        counts = self._wrap(k + steps.view(-1, 1, 1))
        factors = counts[:-1] / (counts[:-1] + 3)
        m = scan_varying(self.epsilon * u, m, factors.to(u.dtype), self.restart)
        return m, (last(m, lengths), last(counts[1:], lengths).to(k.dtype))

    def _wrap(self, k: Tensor) -> Tensor:
        return k if self.restart is None else torch.remainder(k, self.restart)
