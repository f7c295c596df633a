"""Recurrences: what reads the accelerated drive and the hidden state.

Each file is one recurrence: `step` is its equation, `run` the same over a whole sequence, on the fastest
kernel that there is for it.
"""

from models.recurrences.base import RECURRENCES, Recurrence
from models.recurrences.gru import GRU
from models.recurrences.lstm import LSTM
from models.recurrences.orthogonal import Orthogonal, orthogonal_parameters, rebase_
from models.recurrences.rnn import RNNReLU, RNNTanh

__all__ = [
    "GRU",
    "LSTM",
    "RECURRENCES",
    "Orthogonal",
    "RNNReLU",
    "RNNTanh",
    "Recurrence",
    "orthogonal_parameters",
    "rebase_",
]
