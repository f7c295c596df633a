"""Data sets as numpy arrays, the same for training and for re-measuring an exported model.

Nothing here imports torch or Lightning: an installation that only exports or serves can load the data too.
"""

from training.data.download import DownloadError
from training.data.errors import DataError
from training.data.idx import IdxError
from training.data.registry import DATASETS, Loader, data_directory, load
from training.data.splits import Digits, Split

__all__ = [
    "DATASETS",
    "DataError",
    "Digits",
    "DownloadError",
    "IdxError",
    "Loader",
    "Split",
    "data_directory",
    "load",
]
