"""`momentum::recurrence`: a recurrence over a drive, as an autograd operator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from models.kernels.build import fits, loaded, refuse_double_backward

SAVED = {"lstm": 4, "gru": 4}  # numbers a unit and step that backward needs besides the states


def can_run(*tensors: Tensor) -> bool:
    """Whether the operator can take these tensors, and could be built."""
    return fits(*tensors) and _ready()


def recurrence(
    kind: str,
    x: Tensor,
    weight_ih: Tensor | None,
    lengths: Tensor | None,
    state: tuple[Tensor, ...],
    weight: Tensor,
    bias: Tensor,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run a recurrence over a drive, or over inputs that are projected to it.

    Args:
        kind: "lstm", "gru", "rnn_tanh", "rnn_relu" or "orthogonal".
        x: [time, batch, inputs]; or the drive, [time, batch, gates * H].
        weight_ih: [gates * H, inputs]; None for a drive.
        lengths: int64 [batch], falling, on the CPU; None for all of `time`.
        state: h, and c of an LSTM, each [batch, H].
        weight: [gates * H, H].
        bias: [gates * H], added to the recurrent product; the threshold of an orthogonal one's modReLU.

    Returns:
        Every h [time, batch, H], zero past a row's length, and the last state.
    """
    if lengths is None:
        lengths = torch.full((x.shape[1],), x.shape[0], dtype=torch.int64)
    h, c = state if len(state) == 2 else (state[0], state[0].new_empty(0))
    y, h_n, c_n, _, _ = torch.ops.momentum.recurrence(x, weight_ih, h, c, weight, bias, lengths, kind)
    return y, (h_n, c_n)[: len(state)]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight_ih, h0, c0, weight, _, lengths, ctx.kind = inputs
    y, _, _, c, saved = output
    ctx.mark_non_differentiable(c, saved)
    ctx.set_materialize_grads(False)  # zeros as large as `saved` would cost as much as the step itself
    # a drive is not needed again: without it its memory is free
    kept = (x.new_empty(0), None) if weight_ih is None else (x, weight_ih)
    ctx.save_for_backward(*kept, h0, c0, weight, lengths, y, c, saved)


def _backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
    refuse_double_backward()
    x, weight_ih, h0, c0, weight, lengths, y, c, saved = ctx.saved_tensors
    known = (
        torch.zeros_like(value) if gradient is None else gradient
        for gradient, value in zip(gradients, (y, h0, c0), strict=False)
    )
    of_x, of_h0, of_c0, of_weight, of_bias, of_weight_ih = torch.ops.momentum.recurrence_backward(
        *known, x, weight_ih, h0, c0, weight, lengths, y, c, saved, ctx.kind, ctx.needs_input_grad[0]
    )
    return (
        of_x if ctx.needs_input_grad[0] else None,
        None if weight_ih is None else of_weight_ih.T,
        of_h0,
        of_c0,
        of_weight,
        of_bias,
        None,
        None,
    )


def _fake(
    x: Tensor, weight_ih: Tensor | None, h0: Tensor, c0: Tensor, weight: Tensor, *others: Any
) -> tuple[Tensor, ...]:
    del weight_ih, weight
    kind, time, (batch, n) = others[-1], x.shape[0], h0.shape
    c = x.new_empty(time if kind == "lstm" else 0, batch, n)
    saved = x.new_empty(time if kind in SAVED else 0, batch, SAVED.get(kind, 0) * n)
    return x.new_empty(time, batch, n), torch.empty_like(h0), torch.empty_like(c0), c, saved


def _fake_backward(
    dy: Tensor, dh: Tensor, dc: Tensor, x: Tensor, weight_ih: Tensor | None, *others: Any
) -> tuple[Tensor, ...]:
    weight, of_x = others[2], others[-1]
    inputs = 0 if weight_ih is None else x.shape[2]
    of_inputs = dy.new_empty((*dy.shape[:2], inputs or len(weight)) if of_x else (0,))
    states = torch.empty_like(dh), torch.empty_like(dc)
    of_weights = torch.empty_like(weight), dy.new_empty(len(weight)), dy.new_empty(inputs, len(weight))
    return of_inputs, *states, *of_weights


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _ready() -> bool:
    return loaded("recurrence", _register)


def _register() -> None:
    torch.library.register_autograd("momentum::recurrence", _backward, setup_context=_setup_context)
    torch.library.register_fake("momentum::recurrence", _fake)
    torch.library.register_fake("momentum::recurrence_backward", _fake_backward)
