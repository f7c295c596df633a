"""The data sets by name. A new one is one loader and one entry in ``DATASETS``."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from training.data.errors import DataError
from training.data.mnist import load_mnist
from training.data.optdigits import load_optdigits
from training.data.splits import Digits, Split

Loader = Callable[[Split, Path], Digits]

DATASETS: dict[str, Loader] = {
    "mnist": load_mnist,
    "optdigits": load_optdigits,
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
    if dataset not in DATASETS:
        raise DataError(f"no data set is named {dataset!r}; known: {', '.join(DATASETS)}")
    if split not in get_args(Split):
        raise DataError(f"no split is named {split!r}; known: {', '.join(get_args(Split))}")
    return DATASETS[dataset](split, root)


def data_directory(explicit: Path | None = None) -> Path:
    """Where data sets are looked for and downloaded to.

    Args:
        explicit: what the user asked for, if anything.

    Returns:
        ``explicit``, else the environment variable ``MOMENTUM_DATA``, else ``~/.cache/momentum-serve``.
    """
    chosen = explicit or os.environ.get("MOMENTUM_DATA") or "~/.cache/momentum-serve"
    return Path(chosen).expanduser()
