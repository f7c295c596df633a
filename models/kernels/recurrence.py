"""`momentum::recurrence`: a recurrence over a drive, as an autograd operator."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from models.kernels.build import fits, loaded

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1, "orthogonal": 1}
SAVED = {"lstm": 4, "gru": 4}  # numbers a unit and step that backward needs besides the states


def can_run(*tensors: Tensor) -> bool:
    """Whether the operator can take these tensors, and could be built."""
    return fits(*tensors) and _ready_once()


def recurrence(
    kind: str,
    drive: Tensor,
    lengths: Tensor | None,
    state: tuple[Tensor, ...],
    weight: Tensor,
    bias: Tensor,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run a recurrence over a drive.

    Args:
        kind: "lstm", "gru", "rnn_tanh", "rnn_relu" or "orthogonal".
        drive: [time, batch, gates * H].
        lengths: int64 [batch], falling, on the CPU; None for all of `time`.
        state: h, and c of an LSTM, each [batch, H].
        weight: [gates * H, H].
        bias: [gates * H], added to the recurrent product; the threshold of an orthogonal one's modReLU.

    Returns:
        Every h [time, batch, H], zero past a row's length, and the last state.
    """
    if lengths is None:
        lengths = torch.full((drive.shape[1],), drive.shape[0], dtype=torch.int64)
    h, c = state if len(state) == 2 else (state[0], state[0].new_empty(0))
    y, h_n, c_n, _, _ = torch.ops.momentum.recurrence(drive, h, c, weight, bias, lengths, kind)
    return y, (h_n, c_n)[: len(state)]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, h0, c0, weight, _, lengths, ctx.kind = inputs
    y, _, _, c, saved = output
    ctx.mark_non_differentiable(c, saved)
    ctx.set_materialize_grads(False)  # zeros as large as `saved` would cost as much as the step itself
    ctx.save_for_backward(h0, c0, weight, lengths, y, c, saved)


def _backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
    h0, c0, weight, lengths, y, c, saved = ctx.saved_tensors
    known = (
        torch.zeros_like(value) if gradient is None else gradient
        for gradient, value in zip(gradients, (y, h0, c0), strict=False)
    )
    of_drive, of_h0, of_c0, of_product = torch.ops.momentum.recurrence_backward(
        *known, h0, c0, weight, lengths, y, c, saved, ctx.kind
    )
    if ctx.kind != "gru":  # there alone the reset gate stands between the two
        of_product = of_drive
    # all steps' outer products in one matrix product
    batch, of_product = len(h0), of_product.flatten(0, 1)
    of_weight = of_product[:batch].T @ h0
    of_weight.addmm_(of_product[batch:].T, y[:-1].flatten(0, 1))
    if ctx.kind == "orthogonal":  # modReLU(z) = sign(z) relu(|z| + b)
        of_product = of_product * y.flatten(0, 1).sign()
    return of_drive, of_h0, of_c0, of_weight, of_product.sum(0), None, None


def _fake(
    drive: Tensor, h0: Tensor, c0: Tensor, weight: Tensor, bias: Tensor, lengths: Tensor, kind: str
) -> tuple[Tensor, ...]:
    del weight, bias, lengths
    time, batch, n = drive.shape[0], *h0.shape
    c = drive.new_empty(time if kind == "lstm" else 0, batch, n)
    saved = drive.new_empty(time if kind in SAVED else 0, batch, SAVED.get(kind, 0) * n)
    return drive.new_empty(time, batch, n), torch.empty_like(h0), torch.empty_like(c0), c, saved


def _fake_backward(*arguments: Any) -> tuple[Tensor, ...]:
    dh, dc, y, kind = arguments[1], arguments[2], arguments[7], arguments[10]
    shape = (*y.shape[:2], GATES[kind] * y.shape[2])
    of_product = y.new_empty(shape if kind == "gru" else (0,))
    return y.new_empty(shape), torch.empty_like(dh), torch.empty_like(dc), of_product


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _ready_once() -> bool:
    return _ready()


@functools.cache
def _ready() -> bool:
    if not loaded("recurrence"):
        return False
    torch.library.register_autograd("momentum::recurrence", _backward, setup_context=_setup_context)
    torch.library.register_fake("momentum::recurrence", _fake)
    torch.library.register_fake("momentum::recurrence_backward", _fake_backward)
    return True
