"""`momentum::adam`: the Adam filter over a drive, as an autograd operator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from models.kernels.build import fits, loaded, refuse_double_backward

STRIDE = 32  # of adam.cpp


def can_run(*tensors: Tensor) -> bool:
    """Whether the operator can take these tensors, and could be built."""
    return fits(*tensors) and _ready()


def adam(
    u: Tensor,
    state: tuple[Tensor, Tensor],
    lengths: Tensor | None,
    mu: float | Tensor,
    epsilon: float | Tensor,
    beta: float,
    tiny: float,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """`v_t = mu v_{t-1} + epsilon u_t`, `s_t = beta s_{t-1} + (1 - beta) u_t^2`, `v_t / sqrt(s_t + tiny)`.

    Args:
        u: [time, batch, channels].
        state: v and s, each [batch, channels].
        lengths: int64 [batch], on the CPU; None for all of `time`.
        mu, epsilon: numbers, or tensors of one element, which then get gradients.
        beta, tiny: numbers.

    Returns:
        The quotients [time, batch, channels], zero past a row's length, and the last v and s.
    """
    if lengths is None:
        lengths = torch.full((u.shape[1],), u.shape[0], dtype=torch.int64)
    mu, epsilon = (torch.as_tensor(rate, dtype=torch.float64) for rate in (mu, epsilon))
    d, v, s, _, _ = torch.ops.momentum.adam(u, *state, lengths, mu, epsilon, beta, tiny)
    return d, (v, s)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    u, _, _, lengths, mu, epsilon, ctx.beta, ctx.tiny = inputs
    _, _, _, kept_v, kept_s = output
    ctx.mark_non_differentiable(kept_v, kept_s)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(u, kept_v, kept_s, lengths, mu, epsilon)


def _backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
    refuse_double_backward()
    u = ctx.saved_tensors[0]
    known = (
        torch.zeros_like(value) if gradient is None else gradient
        for gradient, value in zip(gradients, (u, u[0], u[0]), strict=False)
    )
    of_u, of_v, of_s, of_rates = torch.ops.momentum.adam_backward(
        *known, *ctx.saved_tensors, ctx.beta, ctx.tiny
    )
    return of_u, of_v, of_s, None, of_rates[0], of_rates[1], None, None


def _fake(u: Tensor, v: Tensor, s: Tensor, *_: Any) -> tuple[Tensor, ...]:
    shape = (-(-u.shape[0] // STRIDE), *v.shape)
    return (
        torch.empty_like(u),
        torch.empty_like(v),
        torch.empty_like(s),
        u.new_empty(shape),
        u.new_empty(shape),
    )


def _fake_backward(dd: Tensor, dv: Tensor, ds: Tensor, *_: Any) -> tuple[Tensor, ...]:
    rates = dd.new_empty(2, dtype=torch.float64)
    return torch.empty_like(dd), torch.empty_like(dv), torch.empty_like(ds), rates


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _ready() -> bool:
    return loaded("adam", _register)


def _register() -> None:
    torch.library.register_autograd("momentum::adam", _backward, setup_context=_setup_context)
    torch.library.register_fake("momentum::adam", _fake)
    torch.library.register_fake("momentum::adam_backward", _fake_backward)
