"""Data sets of images and speech as numpy arrays, the same for training and re-measuring an exported model.

Nothing here imports torch or Lightning: an installation that only exports or serves can load the data too.
"""

from training.data.download import DownloadError
from training.data.errors import DataError
from training.data.idx import IdxError
from training.data.registry import DATASETS, SPEECH, Loader, SpeechLoader, data_directory, load, load_speech
from training.data.speech import Segment, Speech, Utterance
from training.data.splits import Digits, Split

__all__ = [
    "DATASETS",
    "SPEECH",
    "DataError",
    "Digits",
    "DownloadError",
    "IdxError",
    "Loader",
    "Segment",
    "Speech",
    "SpeechLoader",
    "Split",
    "Utterance",
    "data_directory",
    "load",
    "load_speech",
]
