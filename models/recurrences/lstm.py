"""The LSTM."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

from models.recurrences.base import RECURRENCES, State, Weights
from models.recurrences.fused import FusedRecurrence


@RECURRENCES.register("lstm")
class LSTM(FusedRecurrence):
    """`torch.nn.LSTM`'s recurrence, d being the drive:

        i, f, g, o = d_t + weight_hh h_{t-1} + bias_hh
        c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)
        h_t = sigmoid(o) tanh(c_t)

    Source: Hochreiter and Schmidhuber, "Long Short-Term Memory" (1997), with the forget gate of Gers et al.
    (2000).
    """

    gates = 4
    states = ("h", "c")
    projects = True
    kernel = "lstm"
    vendor = torch.lstm

    @classmethod
    def shapes(cls, hidden_size: int, output_size: int, bias: bool) -> dict[str, tuple[int, ...]]:
        projection = {"weight_hr": (output_size, hidden_size)} if output_size != hidden_size else {}
        return super().shapes(hidden_size, output_size, bias) | projection

    @staticmethod
    def step(drive: Tensor, state: State, weights: Weights) -> State:
        h, c = state
        i, f, g, o = (drive + linear(h, weights["weight_hh"], weights.get("bias_hh"))).chunk(4, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        if "weight_hr" in weights:
            h = linear(h, weights["weight_hr"])
        return h, c
