"""PyTorch's own recurrences (cuDNN, oneDNN), which project and run in one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from models.recurrences.base import State, Weights


def run_vendor(
    function: Callable[..., tuple[Tensor, ...]],
    x: Tensor,
    weight_ih: Tensor,
    lengths: Tensor | None,
    state: State,
    weights: Weights,
) -> tuple[Tensor, State]:
    """Call `torch.lstm`, `torch.gru`, `torch.rnn_tanh` or `torch.rnn_relu`.

    The other arguments are those of `Recurrence.project_and_run`.
    """
    weight_hh = weights["weight_hh"]
    zero = weight_hh.new_zeros(len(weight_hh))
    parts = [weight_ih, weight_hh, zero, weights.get("bias_hh", zero)]
    if "weight_hr" in weights:
        parts.append(weights["weight_hr"])
    # one piece of memory, which cuDNN would otherwise make of them at every call, with a warning
    flat = torch.cat([part.flatten() for part in parts])
    pieces = torch.split(flat, [part.numel() for part in parts])
    parameters = [piece.view_as(part) for piece, part in zip(pieces, parts, strict=True)]
    # has_biases, num_layers, dropout, train, bidirectional; cuDNN keeps what backward needs only in training
    settings: tuple[Any, ...] = (True, 1, 0.0, torch.is_grad_enabled(), False)
    before = tuple(s.unsqueeze(0) for s in state)
    hx = before if len(before) > 1 else before[0]
    if lengths is None:
        y, *after = function(x, hx, parameters, *settings, False)
    else:
        packed = pack_padded_sequence(x, lengths)
        data, *after = function(packed.data, packed.batch_sizes, hx, parameters, *settings)
        y, _ = pad_packed_sequence(PackedSequence(data, packed.batch_sizes), total_length=len(x))
    return y, tuple(s.squeeze(0) for s in after)
