"""Recurrences that have fused kernels: ours for the CPU, PyTorch's own for what those can read."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor

from models.kernels.recurrence import can_run, recurrence
from models.recurrences.base import Recurrence, State, Weights
from models.recurrences.vendor import run_vendor


class FusedRecurrence(Recurrence):
    """Runs on our CPU kernel, else on PyTorch's if the drive is a projection, else step by step.

    Attributes:
        kernel: name of our kernel.
        bias: name of the parameter that the kernel takes as its bias.
        vendor: PyTorch's function, None if it has none.
    """

    kernel: ClassVar[str]
    bias: ClassVar[str] = "bias_hh"
    vendor: ClassVar[Callable[..., tuple[Tensor, ...]] | None] = None

    @classmethod
    def run(
        cls, drive: Tensor, lengths: Tensor | None, state: State, weights: Weights
    ) -> tuple[Tensor, State]:
        if not cls._native(drive, state, weights):
            return super().run(drive, lengths, state, weights)
        return cls._run_native(drive, None, lengths, state, weights)

    @classmethod
    def project_and_run(
        cls, x: Tensor, weight_ih: Tensor, lengths: Tensor | None, state: State, weights: Weights
    ) -> tuple[Tensor, State]:
        if weight_ih.dtype == x.dtype and cls._native(x, state, weights):
            return cls._run_native(x, weight_ih, lengths, state, weights)
        if cls.vendor is None:
            return super().project_and_run(x, weight_ih, lengths, state, weights)
        return run_vendor(cls.vendor, x, weight_ih, lengths, state, weights)

    @classmethod
    def matrix(cls, weights: Weights) -> Tensor:
        """The matrix [gates * H, H] that the kernel multiplies the hidden state with, from the left."""
        return weights["weight_hh"]

    @classmethod
    def _run_native(
        cls, x: Tensor, weight_ih: Tensor | None, lengths: Tensor | None, state: State, weights: Weights
    ) -> tuple[Tensor, State]:
        weight = cls.matrix(weights)
        bias = weights[cls.bias] if cls.bias in weights else weight.new_zeros(len(weight))
        return recurrence(cls.kernel, x, weight_ih, lengths, state, weight, bias)

    @staticmethod
    def _native(x: Tensor, state: State, weights: Weights) -> bool:
        return "weight_hr" not in weights and can_run(x, *state, *weights.values())
