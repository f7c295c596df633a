"""First-order recurrences over time in a number of operations that grows with the logarithm of the time."""

from __future__ import annotations

import torch
from torch import Tensor


def number(value: float | Tensor) -> float:
    """The value of a rate, learnable or not."""
    return float(value.item()) if isinstance(value, Tensor) else value


def scan(u: Tensor, initial: Tensor, factor: float | Tensor) -> Tensor:
    """`v_t = factor v_{t-1} + u_t` for one factor.

    Once `v_t` sums the last n inputs, `v_t + factor^n v_{t-n}` sums the last 2n; doubling stops as soon as
    `factor^n` is below the precision of the data.

    Args:
        u: [time, batch, channels].
        initial: [batch, channels], v one step before u begins.
        factor: in [0, 1); a tensor of one element gets a gradient.

    Returns:
        [time, batch, channels].
    """
    v = torch.cat([u[:1] + factor * initial, u[1:]])
    negligible = torch.finfo(v.dtype).eps / 16
    n, power, size = 1, factor, number(factor)
    while n < len(v) and size > negligible:
        v = torch.cat([v[:n], v[n:] + power * v[:-n]])
        n, power, size = 2 * n, power * power, size * size
    return v


def scan_varying(u: Tensor, initial: Tensor, factors: Tensor, memory: int | None) -> Tensor:
    """`v_t = factor_t v_{t-1} + u_t` with a factor for each step.

    Args:
        u: [time, batch, channels].
        initial: [batch, channels], v one step before u begins.
        factors: [time, batch, 1].
        memory: the product of so many successive factors is always zero; None if there is no such number.

    Returns:
        [time, batch, channels].
    """
    v = torch.cat([u[:1] + factors[:1] * initial, u[1:]])
    longest = len(v) if memory is None else min(memory, len(v))
    n = 1
    while n < longest:
        v = torch.cat([v[:n], v[n:] + factors[n:] * v[:-n]])
        factors = torch.cat([factors[:n], factors[n:] * factors[:-n]])
        n *= 2
    return v
