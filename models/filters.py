"""Causal filters over time: what turns a network's drive into an accelerated one.

A filter reads a sequence and a state and never looks at the hidden state of the recurrence. A *linear* filter
commutes with the input projection, so it may run on the inputs (and a constant 1 for the bias) instead of on
the much wider drive.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.registry import Registry

FILTERS: Registry[Filter] = Registry("filter")


class Filter(nn.Module, ABC):
    """A causal map over time with carried state; every channel is filtered by itself."""

    linear: ClassVar[bool]

    @abstractmethod
    def forward(self, u: Tensor, state: Tensor) -> Tensor:
        """Filter a sequence.

        Args:
            u: [time, batch, channels].
            state: [batch, channels], the output one step before `u` begins; zeros mean "start".

        Returns:
            [time, batch, channels]; the row of a sequence's last step is the state to go on with.
        """


@FILTERS.register("momentum")
class Momentum(Filter):
    """The momentum filter, `v_t = mu v_{t-1} + epsilon u_t`.

    Source: Nguyen, Baraniuk, Bertozzi, Osher, Wang, "MomentumRNN: Integrating Momentum into Recurrent Neural
    Networks" (NeurIPS 2020), the momentum cell.

    It runs as a scan of logarithmic depth: once `v_t` sums the last n inputs, `v_t + mu^n v_{t-n}` sums the
    last 2n, and doubling stops as soon as `mu^n` is below the precision of the data.

    Args:
        mu: momentum, 0 <= mu < 1.
        epsilon: step size, positive.

    Raises:
        ValueError: mu or epsilon is out of range.
    """

    linear = True

    def __init__(self, mu: float = 0.6, epsilon: float = 0.6) -> None:
        super().__init__()
        if not 0.0 <= mu < 1.0:
            raise ValueError(f"mu must be in [0, 1), got {mu}")
        if not epsilon > 0.0:
            raise ValueError(f"epsilon must be positive, got {epsilon}")
        self.mu = float(mu)
        self.epsilon = float(epsilon)

    def forward(self, u: Tensor, state: Tensor) -> Tensor:
        v = self.epsilon * u
        v = torch.cat([v[:1] + self.mu * state, v[1:]])
        negligible = torch.finfo(v.dtype).eps / 16
        n, power = 1, self.mu
        while n < len(v) and power > negligible:
            v = torch.cat([v[:n], v[n:] + power * v[:-n]])
            n, power = 2 * n, power * power
        return v

    def extra_repr(self) -> str:
        return f"mu={self.mu}, epsilon={self.epsilon}"
