"""Networks: filters, recurrences, the named layers and the task models. Imports torch and nothing else of
this project.
"""

from models.accelerated import AcceleratedRNN
from models.conversion import momentum_from, torch_lstm_from
from models.digits import DigitClassifier
from models.filters import FILTERS, Adam, Filter, Identity, Momentum, Nesterov, RMSProp
from models.frames import FrameModel
from models.frontends import FRONT_ENDS, FrontEnd, LogMagnitudeSTFT, LogMel
from models.initialization import authors_, chrono_, stretch_memory_
from models.layers import (
    DTRIV,
    SRLSTM,
    AdamDTRIV,
    AdamLSTM,
    MomentumDTRIV,
    MomentumGRU,
    MomentumLSTM,
    MomentumRNN,
    NesterovDTRIV,
    NesterovLSTM,
    RMSPropDTRIV,
    RMSPropLSTM,
)
from models.recurrences import (
    GRU,
    LSTM,
    RECURRENCES,
    Orthogonal,
    Recurrence,
    RNNReLU,
    RNNTanh,
    orthogonal_parameters,
    rebase_,
)
from models.reference import unroll
from models.registry import Registry
from models.sequences import SequenceModel

__all__ = [
    "DTRIV",
    "FILTERS",
    "FRONT_ENDS",
    "GRU",
    "LSTM",
    "RECURRENCES",
    "SRLSTM",
    "AcceleratedRNN",
    "Adam",
    "AdamDTRIV",
    "AdamLSTM",
    "DigitClassifier",
    "Filter",
    "FrameModel",
    "FrontEnd",
    "Identity",
    "LogMagnitudeSTFT",
    "LogMel",
    "Momentum",
    "MomentumDTRIV",
    "MomentumGRU",
    "MomentumLSTM",
    "MomentumRNN",
    "Nesterov",
    "NesterovDTRIV",
    "NesterovLSTM",
    "Orthogonal",
    "RMSProp",
    "RMSPropDTRIV",
    "RMSPropLSTM",
    "RNNReLU",
    "RNNTanh",
    "Recurrence",
    "Registry",
    "SequenceModel",
    "authors_",
    "chrono_",
    "momentum_from",
    "orthogonal_parameters",
    "rebase_",
    "stretch_memory_",
    "torch_lstm_from",
    "unroll",
]
