"""Recurrences: what reads the (filtered) drive and the hidden state. Each runs on the vendor's fused
kernel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from models.registry import Registry

RECURRENCES: Registry[Recurrence] = Registry("recurrence")


class Recurrence(ABC):
    """One layer and direction of a recurrent network over a whole sequence.

    Attributes:
        gates: rows of the weight matrices per hidden unit.
        states: names of the carried states, hidden state first.
    """

    gates: ClassVar[int]
    states: ClassVar[tuple[str, ...]]

    @staticmethod
    @abstractmethod
    def run(
        u: Tensor, batch_sizes: Tensor | None, state: tuple[Tensor, ...], weights: list[Tensor]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run the recurrence.

        Args:
            u: [time, batch, inputs], or packed data [sum of lengths, inputs] together with `batch_sizes`.
            batch_sizes: as in `torch.nn.utils.rnn.PackedSequence`, or None.
            state: each [1, batch, units].
            weights: weight_ih, weight_hh, bias_ih, bias_hh and, with a projection, weight_hr.

        Returns:
            The outputs, laid out as `u`, and the last state.
        """


@RECURRENCES.register("lstm")
class LSTM(Recurrence):
    """`torch.nn.LSTM`'s recurrence, gates i, f, g, o (Hochreiter and Schmidhuber 1997, with forget gate)."""

    gates = 4
    states = ("h", "c")

    @staticmethod
    def run(
        u: Tensor, batch_sizes: Tensor | None, state: tuple[Tensor, ...], weights: list[Tensor]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        # cuDNN keeps what a backward pass needs only in training mode
        # has_biases, num_layers, dropout, train, bidirectional
        settings = (True, 1, 0.0, torch.is_grad_enabled(), False)
        if batch_sizes is None:
            y, h, c = torch.lstm(u, state, weights, *settings, False)
        else:
            y, h, c = torch.lstm(u, batch_sizes, state, weights, *settings)
        return y, (h, c)
