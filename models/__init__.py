"""Networks: filters, recurrences, the named layers and the task models. Imports torch and nothing else of
this project.
"""

from models.accelerated import AcceleratedRNN
from models.digits import DigitClassifier
from models.filters import FILTERS, Filter, Momentum
from models.initialization import authors_, chrono_, stretch_memory_
from models.momentum_lstm import MomentumLSTM
from models.recurrences import LSTM, RECURRENCES, Recurrence
from models.reference import MomentumLSTMCell, unroll
from models.registry import Registry

__all__ = [
    "FILTERS",
    "LSTM",
    "RECURRENCES",
    "AcceleratedRNN",
    "DigitClassifier",
    "Filter",
    "Momentum",
    "MomentumLSTM",
    "MomentumLSTMCell",
    "Recurrence",
    "Registry",
    "authors_",
    "chrono_",
    "stretch_memory_",
    "unroll",
]
