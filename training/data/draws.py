"""Random choices that depend on their key alone, whatever numpy's version."""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")


class Draws:
    """A stream of random choices: numpy guarantees a bit generator's raw stream for ever, and no more.

    Args:
        key: what selects the stream, such as a seed and a name.
    """

    def __init__(self, *key: int | str) -> None:
        digest = hashlib.sha256(repr(key).encode()).digest()
        self._bits = np.random.PCG64(int.from_bytes(digest, "big"))

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * float(self._fractions(1)[0])

    def choose(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[int(len(items) * self._fractions(1)[0])]

    def noise(self, count: int) -> npt.NDArray[np.float32]:
        """White noise: [count] in [-1, 1)."""
        return (2 * self._fractions(count) - 1).astype(np.float32)

    def _fractions(self, count: int) -> npt.NDArray[np.float64]:
        return np.asarray(self._bits.random_raw(count) >> np.uint64(11), np.float64) * 2.0**-53
