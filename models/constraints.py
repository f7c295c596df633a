"""Parametrizations that keep a learnable number in its range (see `torch.nn.utils.parametrize`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class OpenUnitInterval(nn.Module):
    """(0, 1), by the logistic function."""

    def forward(self, raw: Tensor) -> Tensor:
        """Any number -> a number in (0, 1)."""
        # the logistic function reaches 1 in floating point
        edge = torch.finfo(raw.dtype).eps
        return raw.sigmoid().clamp(edge, 1.0 - edge)

    def right_inverse(self, value: Tensor) -> Tensor:
        """The number that `forward` maps to `value`.

        Raises:
            ValueError: value is outside.
        """
        if not bool(((value > 0) & (value < 1)).all()):
            raise ValueError(f"expected a value in (0, 1), got {value.tolist()}")
        return value.logit()


class Positive(nn.Module):
    """(0, infinity), by the exponential function."""

    def forward(self, raw: Tensor) -> Tensor:
        """Any number -> a positive one."""
        return raw.exp()

    def right_inverse(self, value: Tensor) -> Tensor:
        """The number that `forward` maps to `value`.

        Raises:
            ValueError: value is not positive.
        """
        if not bool((value > 0).all()):
            raise ValueError(f"expected a positive value, got {value.tolist()}")
        return torch.log(value)
