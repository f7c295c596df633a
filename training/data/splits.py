"""What a split of a data set is, and how a fixed part of one is held out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, eq=False)
class Digits:
    """One split of a set of labelled images of digits.

    Attributes:
        dataset: name of the data set, as given to ``load``.
        split: which of its parts this is.
        images: uint8 [N, rows, columns], 0 (paper) to ``scale`` (full ink).
        labels: int64 [N], the digits 0 to 9.
        scale: the largest value a pixel can have.
        checksums: SHA-256 in hexadecimal of the (uncompressed) sources, by name, for provenance.
    """

    dataset: str
    split: Split
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    scale: int
    checksums: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, index: int | slice | npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Images as the models take them.

        Args:
            index: one image, or several.

        Returns:
            float32 in [0, 1], [rows, columns] for one image, [n, rows, columns] for several.
        """
        return np.asarray(self.images[index], np.float32) / np.float32(self.scale)


def hold_out(
    labels: npt.NDArray[np.int64], count: int, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split a set in two, stratified: each class gives its share of ``count``, rounded up or down.

    The result depends on the arguments alone, whatever numpy's version: numpy guarantees a bit generator's
    raw stream for ever, but not what ``Generator.permutation`` makes of it.

    Args:
        labels: [N].
        count: how many to hold out, 1 to N.
        seed: selects the members.

    Returns:
        The indices that are kept [N - count] and those held out [count], each ascending.
    """
    keys = np.random.PCG64(seed).random_raw(len(labels))
    shuffled_by_class = np.lexsort((keys, labels))
    held_out = np.sort(shuffled_by_class[np.arange(count) * len(labels) // count])
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out
