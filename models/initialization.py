"""Initialisations for LSTM-gated layers, in place."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn

from models.accelerated import AcceleratedRNN
from models.recurrences import LSTM

Initialization = Literal["chrono", "authors", "authors-timit", "torch"]


def initialize_(rnn: AcceleratedRNN, initialization: Initialization | None, longest: int) -> Initialization:
    """Draw the parameters of a new layer by the initialisation's name.

    Args:
        rnn: the layer, as it was made.
        initialization: "chrono" or "authors", see `chrono_` and `authors_`; "authors-timit" has forget biases
            of -4; "torch" leaves the layer as it was made, which is how torch (or an orthogonal recurrence)
            has it; None is chrono for an LSTM with biases and torch for every other network.
        longest: how many steps chrono initialisation spans.

    Returns:
        The initialisation's name, with None resolved.

    Raises:
        ValueError: there is no such initialisation, or it is for other networks.
    """
    if initialization is None:
        initialization = "chrono" if rnn.recurrence is LSTM and rnn.bias else "torch"
    if initialization == "chrono":
        chrono_(rnn, longest)
    elif initialization == "authors":
        authors_(rnn)
    elif initialization == "authors-timit":
        authors_(rnn, forget_bias=-4.0)
    elif initialization != "torch":
        raise ValueError(
            f"initialization must be chrono, authors, authors-timit or torch, got {initialization!r}"
        )
    return initialization


def _expect_lstm(rnn: AcceleratedRNN, what: str) -> None:
    if rnn.recurrence is not LSTM:
        raise ValueError(f"{what} is for the gates of an LSTM, got a network of {rnn.recurrence.__name__}")
    if not rnn.bias:
        raise ValueError(f"{what} sets the biases of an LSTM's gates, got a network without: use bias=True")


@torch.no_grad()
def chrono_(rnn: AcceleratedRNN, longest: int) -> None:
    """Recurrent weights orthogonal gate by gate, forget gates that remember between 1 and `longest` steps.

    Input weights are normal with a standard deviation of 0.5 / sqrt(inputs): a layer that reads one pixel a
    step hardly notices it with torch's, which are scaled by the hidden size.

    The gate biases are drawn as `b_f = log U(1, longest - 1)`, `b_i = -b_f`; they go into bias_hh, which no
    filter amplifies.

    Raises:
        ValueError: the network is no LSTM with biases.

    Source: Tallec and Ollivier, "Can recurrent neural networks warp time?" (ICLR 2018), chrono
    initialisation; Saxe et al. (ICLR 2014) for orthogonal weights.
    """
    _expect_lstm(rnn, "chrono initialisation")
    for name, parameter in rnn.named_parameters():
        if name.startswith("weight_hh"):
            for gate in parameter.chunk(4):
                nn.init.orthogonal_(gate)
        elif name.startswith("weight_ih"):
            nn.init.normal_(parameter, std=0.5 / math.sqrt(parameter.shape[1]))
        elif name.startswith("bias_ih"):
            parameter.zero_()
        elif name.startswith("bias_hh"):
            i, f, g, o = parameter.chunk(4)
            f.uniform_(1, max(longest - 1, 2)).log_()
            i.copy_(-f)
            g.zero_()
            o.zero_()


@torch.no_grad()
def authors_(rnn: AcceleratedRNN, forget_bias: float = 1.0) -> None:
    """The MomentumRNN authors' initialisation.

    Input weights orthogonal, recurrent weights a stack that is the identity for the input gate and zero for
    the others (`eye_` on [4 H, H]), biases 0 except the forget gate's, `forget_bias` in both biases: 1 for
    MNIST, -4 for TIMIT.

    Raises:
        ValueError: the network is no LSTM with biases.
    """
    _expect_lstm(rnn, "the authors' initialisation")
    for name, parameter in rnn.named_parameters():
        if name.startswith("weight_ih"):
            nn.init.orthogonal_(parameter)
        elif name.startswith("weight_hh"):
            nn.init.eye_(parameter)
        elif name.startswith("bias"):
            parameter.zero_()
            parameter.chunk(4)[1].fill_(forget_bias)


@torch.no_grad()
def stretch_memory_(rnn: AcceleratedRNN, log_factor: float) -> None:
    """Make every unit remember `exp(log_factor)` times as many steps: for going on at a higher temporal
    resolution.

    Adds log_factor to the forget gates' biases and takes it from the input gates', as chrono initialisation
    pairs them.

    Raises:
        ValueError: the network is no LSTM with biases.
    """
    _expect_lstm(rnn, "stretching the memory")
    for name, parameter in rnn.named_parameters():
        if name.startswith("bias_hh"):
            i, f, _, _ = parameter.chunk(4)
            f.add_(log_factor)
            i.sub_(log_factor)
