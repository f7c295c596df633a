"""The gated recurrent unit."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

from models.recurrences.base import RECURRENCES, State, Weights
from models.recurrences.fused import FusedRecurrence


@RECURRENCES.register("gru")
class GRU(FusedRecurrence):
    """`torch.nn.GRU`'s recurrence, d being the drive with the parts d_r, d_z, d_n:

        a_r, a_z, a_n = weight_hh h_{t-1} + bias_hh
        r = sigmoid(d_r + a_r), z = sigmoid(d_z + a_z), n = tanh(d_n + r a_n)
        h_t = (1 - z) n + z h_{t-1}

    Source: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder" (EMNLP 2014), with the
    reset gate after the product, as in cuDNN.
    """

    gates = 3
    kernel = "gru"
    vendor = torch.gru

    @staticmethod
    def step(drive: Tensor, state: State, weights: Weights) -> State:
        (h,) = state
        d_r, d_z, d_n = drive.chunk(3, dim=-1)
        a_r, a_z, a_n = linear(h, weights["weight_hh"], weights.get("bias_hh")).chunk(3, dim=-1)
        r, z = torch.sigmoid(d_r + a_r), torch.sigmoid(d_z + a_z)
        n = torch.tanh(d_n + r * a_n)
        return ((1 - z) * n + z * h,)
