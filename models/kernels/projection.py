"""The input projection for all time steps at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

# below this many inputs the usual order of the weight's gradient product is several times slower on CPUs
NARROW = 32


class _Narrow(torch.autograd.Function):
    """`linear` without bias for few inputs: the gradient of the weight as the transpose of `x^T g`."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> Tensor:
        return linear(x, weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor]:
        x, weight = ctx.saved_tensors
        gradient = gradient.flatten(0, -2)
        of_x = (gradient @ weight).view_as(x) if ctx.needs_input_grad[0] else None
        return of_x, (x.flatten(0, -2).T @ gradient).T


def project(x: Tensor, weight: Tensor) -> Tensor:
    """`x weight^T`: x [time, batch, inputs], weight [outputs, inputs]; returns [time, batch, outputs]."""
    if (
        x.is_cpu
        and x.shape[-1] < NARROW
        and not (torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling())
    ):
        result: Tensor = _Narrow.apply(x, weight)  # type: ignore[no-untyped-call]
        return result
    return linear(x, weight)
