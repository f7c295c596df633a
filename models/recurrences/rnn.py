"""The Elman networks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

from models.recurrences.base import RECURRENCES, State, Weights
from models.recurrences.fused import FusedRecurrence


@RECURRENCES.register("rnn_tanh")
class RNNTanh(FusedRecurrence):
    """`h_t = tanh(d_t + weight_hh h_{t-1} + bias_hh)`, d being the drive.

    Source: Elman, "Finding Structure in Time" (1990).
    """

    kernel = "rnn_tanh"
    vendor = torch.rnn_tanh

    @staticmethod
    def step(drive: Tensor, state: State, weights: Weights) -> State:
        return (torch.tanh(drive + linear(state[0], weights["weight_hh"], weights.get("bias_hh"))),)


@RECURRENCES.register("rnn_relu")
class RNNReLU(FusedRecurrence):
    """`h_t = relu(d_t + weight_hh h_{t-1} + bias_hh)`, d being the drive.

    Source: Elman, "Finding Structure in Time" (1990), with the rectifier.
    """

    kernel = "rnn_relu"
    vendor = torch.rnn_relu

    @staticmethod
    def step(drive: Tensor, state: State, weights: Weights) -> State:
        return (torch.relu(drive + linear(state[0], weights["weight_hh"], weights.get("bias_hh"))),)
