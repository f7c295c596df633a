"""The data sets by name. A new one is one loader and one entry in ``DATASETS`` or ``SPEECH``."""

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, get_args

from training.data.errors import DataError
from training.data.fsdd import load_fsdd
from training.data.mnist import load_mnist
from training.data.optdigits import load_optdigits
from training.data.speech import Speech, resampled
from training.data.splits import Digits, Split
from training.data.synthetic_timit import load_synthetic_timit
from training.data.timit import load_timit

Loader = Callable[[Split, Path], Digits]
SpeechLoader = Callable[[Split, Path, Mapping[str, Any]], Speech]

DATASETS: dict[str, Loader] = {
    "mnist": load_mnist,
    "optdigits": load_optdigits,
}
SPEECH: dict[str, SpeechLoader] = {
    "fsdd": load_fsdd,
    "timit": load_timit,
    "synthetic-timit": load_synthetic_timit,
}


def load(dataset: str, split: Split, root: Path) -> Digits:
    """Load one split of a data set, downloading what is missing under ``root``.

    Args:
        dataset: a name in ``DATASETS``.
        split: ``train``, ``validation`` or ``test``; what each holds never depends on a training run's seed.
        root: the data directory, see ``data_directory``.

    Raises:
        DataError: no such data set or split, or the data is absent, damaged, or cannot be downloaded.
        OSError: a file that is there cannot be read.
    """
    _check(dataset, split, DATASETS)
    return DATASETS[dataset](split, root)


def load_speech(
    dataset: str,
    split: Split,
    root: Path,
    *,
    sample_rate: int | None = None,
    options: Mapping[str, Any] = {},
) -> Speech:
    """Load one split of a corpus of speech, downloading or making what is missing, where that can be done.

    Args:
        dataset: a name in ``SPEECH``.
        split: ``train``, ``validation`` or ``test``; what each holds never depends on a training run's seed.
        root: the data directory, see ``data_directory``.
        sample_rate: of the utterances returned, per second; by default the data set's own.
        options: what the data set's loader takes beyond that, by name.

    Raises:
        DataError: no such data set, split, option or sample rate, or the data is absent, damaged, or cannot
            be provided.
        OSError: a file that is there cannot be read.
    """
    _check(dataset, split, SPEECH)
    speech = SPEECH[dataset](split, root, options)
    return speech if sample_rate is None else resampled(speech, sample_rate)


def _check(dataset: str, split: str, known: Collection[str]) -> None:
    if dataset not in known:
        raise DataError(f"no data set is named {dataset!r}; known: {', '.join(known)}")
    if split not in get_args(Split):
        raise DataError(f"no split is named {split!r}; known: {', '.join(get_args(Split))}")


def data_directory(explicit: Path | None = None) -> Path:
    """Where data sets are looked for and downloaded to.

    Args:
        explicit: what the user asked for, if anything.

    Returns:
        ``explicit``, else the environment variable ``MOMENTUM_DATA``, else ``~/.cache/momentum-serve``.
    """
    chosen = explicit or os.environ.get("MOMENTUM_DATA") or "~/.cache/momentum-serve"
    return Path(chosen).expanduser()
