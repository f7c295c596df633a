"""What a filter is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from models.constraints import OpenUnitInterval, Positive
from models.filters.scan import number
from models.registry import Registry

FILTERS: Registry[Filter] = Registry("filter")

State = tuple[Tensor, ...]


class Filter(nn.Module, ABC):
    """A causal map over time with carried state; every channel is filtered by itself.

    A subclass says its equation in `step`; that is enough to train, export and stream it. `forward` runs over
    a whole sequence, here by calling `step`; a subclass that can do better overrides it.

    Attributes:
        linear: the map is linear in the sequence and the state. It then commutes with the input projection
            and runs on the inputs (and a constant 1 for the bias) instead of on the much wider drive.
        states: names of the carried states, each of them as wide as the sequence unless `state_sizes` says
            otherwise. Zeros mean "start".
    """

    linear: ClassVar[bool] = False
    states: ClassVar[tuple[str, ...]]

    @abstractmethod
    def step(self, u: Tensor, state: State) -> tuple[Tensor, State]:
        """One time step: u [batch, channels] and the state before it -> the output and the state after."""

    def state_sizes(self, channels: int) -> dict[str, int]:
        """Name and width of each state for sequences of so many channels."""
        return dict.fromkeys(self.states, channels)

    def forward(self, u: Tensor, state: State, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """Filter a sequence.

        Args:
            u: [time, batch, channels].
            state: the state before it, each [batch, width].
            lengths: int64 [batch] on the CPU, how many steps of each row count, at least 1; None for all.

        Returns:
            The output [time, batch, channels], without meaning past a row's length, and the state after each
            row's last step.
        """
        outputs = []
        for t, u_t in enumerate(u):
            output, after = self.step(u_t, state)
            if lengths is not None:
                counts = (t < lengths).to(u.device).unsqueeze(1)
                after = tuple(torch.where(counts, new, old) for new, old in zip(after, state, strict=True))
            state = after
            outputs.append(output)
        return torch.stack(outputs), state

    def add_rate(self, name: str, value: float, learnable: bool) -> None:
        """Make a positive rate an attribute: a number, or a learnable tensor that stays positive.

        Raises:
            ValueError: value is not positive and finite.
        """
        if not (value > 0.0 and math.isfinite(value)):
            raise ValueError(f"{name} must be positive, got {value}")
        self._add(name, float(value), Positive() if learnable else None)

    def add_decay(self, name: str, value: float, learnable: bool = False) -> None:
        """Make a decay an attribute: a number in [0, 1), or a learnable tensor that stays in (0, 1).

        Raises:
            ValueError: value is not in [0, 1), or 0 and learnable.
        """
        if not 0.0 <= value < 1.0:
            raise ValueError(f"{name} must be in [0, 1), got {value}")
        if learnable and value == 0.0:
            raise ValueError(f"a learnable {name} must be in (0, 1), got 0: choose a small one to start with")
        self._add(name, float(value), OpenUnitInterval() if learnable else None)

    def _add(self, name: str, value: float, constraint: nn.Module | None) -> None:
        if constraint is None:
            setattr(self, name, value)
        else:
            # float64 until the layer says otherwise: 0.6 has to be 0.6 in a float64 network
            setattr(self, name, nn.Parameter(torch.tensor(value, dtype=torch.float64)))
            register_parametrization(self, name, constraint)

    def extra_repr(self) -> str:
        """The rates."""
        return ", ".join(
            f"{name}={number(value):g}"
            for name in ("mu", "epsilon", "beta", "restart")
            if (value := getattr(self, name, None)) is not None
        )


def last(sequence: Tensor, lengths: Tensor | None) -> Tensor:
    """The last step of each row: [batch, channels] of [time, batch, channels]."""
    if lengths is None:
        return sequence[-1]
    return sequence[lengths - 1, torch.arange(len(lengths))]
