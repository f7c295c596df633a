"""How many rows a model runs together fastest. On a CPU that is often few: what a larger batch works on no
longer fits the caches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from exports.card import Card

_BATCHES = (1, 2, 4, 8, 16, 32, 64)
_TIE = 1.05  # as fast as the fastest; of such, the larger batch costs the engine less besides
_ROUNDS = 4
_LONGEST = 0.03  # seconds; larger batches than take so long are not tried
_ENOUGH = 0.1  # seconds for a size, after which no further round begins
_WEIGHT = 0.1  # of a new measurement
_SPREAD = 8  # between the sizes that are measured

_Run = Callable[[Mapping[str, NDArray[Any]]], object]


@dataclass(frozen=True)
class Pace:
    """Requests of one size run fastest so many rows together.

    Attributes:
        size: of a row, along the dimension that may be padded.
        rows: how many together.
        seconds: a row then takes.
    """

    size: int
    rows: int
    seconds: float

    def at(self, size: int) -> Self:
        """An estimate for another size: time is linear in it."""
        return replace(
            self, size=size, seconds=self.seconds * size / self.size if self.size else self.seconds
        )

    def learn(self, seconds: float) -> Self:
        """With another measurement of a row's time in a full batch."""
        return replace(self, seconds=(1.0 - _WEIGHT) * self.seconds + _WEIGHT * seconds)


def measure(run: _Run, card: Card) -> tuple[Pace, ...]:
    """Time a model on its golden input, repeated to several batches and sizes.

    Args:
        run: runs the graph.
        card: of the model.

    Returns:
        Paces by ascending size, at least one.
    """
    golden = {spec.name: np.asarray(card.golden.inputs[spec.name], spec.dtype)[:1] for spec in card.inputs}
    ragged = next(
        (spec.name for spec in card.inputs if isinstance(spec.shape[-1], str) and len(spec.shape) == 2), None
    )
    if ragged is None or "lengths" not in golden:
        return (
            _fastest(run, golden, golden[card.inputs[0].name].shape[-1] if card.inputs[0].shape[1:] else 0),
        )
    size = golden[ragged].shape[1]
    sizes = [max(1, size // _SPREAD), size]
    if card.image_shape is None:  # what has no end can be longer
        sizes += [size * _SPREAD, size * _SPREAD**2]
    paces = []
    for longer in sorted(set(sizes)):
        inputs = golden | {
            ragged: np.resize(golden[ragged], (1, longer)),
            "lengths": np.array([longer], golden["lengths"].dtype),
        }
        paces.append(_fastest(run, inputs, longer))
    return tuple(paces)


def _fastest(run: _Run, row: Mapping[str, NDArray[Any]], size: int) -> Pace:
    took: dict[int, float] = {}
    start = time.perf_counter()
    for _ in range(_ROUNDS):  # in turn, so that what else the machine does hits all alike
        for count in _BATCHES:
            inputs = {name: np.repeat(tensor, count, axis=0) for name, tensor in row.items()}
            begin = time.perf_counter()
            run(inputs)
            took[count] = min(time.perf_counter() - begin, took.get(count, float("inf")))
            if 2 * took[count] > _LONGEST:
                break
        if time.perf_counter() - start > _ENOUGH:
            break
    fastest = min(seconds / count for count, seconds in took.items())
    rows = max(count for count, seconds in took.items() if seconds / count <= _TIE * fastest)
    return Pace(size, rows, took[rows] / rows)
