"""The model in onnxruntime without a server: the rate that no server on this machine can be above."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.serving.digits import Digits, Floats

BATCHES = (1, 4, 8, 16, 32)
THREADS = (1, 2)
_WARM_UP = 3  # runs

Pass = dict[tuple[int, int], float]  # threads, batch -> sequences a second


@dataclass(frozen=True)
class Raw:
    """Some passes over all settings.

    Attributes:
        passes: in their order.
    """

    passes: Sequence[Pass]

    @property
    def best(self) -> float:
        """Sequences a second with two threads: each pass's best batch, the mean of the passes."""
        most = max(THREADS)
        return statistics.fmean(
            max(rate for (threads, _), rate in one.items() if threads == most) for one in self.passes
        )

    @property
    def alone(self) -> float:
        """Runs a second of a loop that runs one sequence after the other, the mean of the passes."""
        return statistics.fmean(one[1, 1] for one in self.passes)


def measure(digits: Sequence[Digits], pixels: Floats, seconds: float) -> Pass:
    """One pass.

    Args:
        digits: a session for each thread.
        pixels: [count, 784]; batches are made of these.
        seconds: for each setting.
    """
    return {
        (threads, batch): _rate(digits[:threads], np.resize(pixels, (batch, pixels.shape[1])), seconds)
        for batch in BATCHES
        for threads in THREADS
    }


def _rate(digits: Sequence[Digits], pixels: Floats, seconds: float) -> float:
    runs = [0] * len(digits)
    begin = 0.0

    def start() -> None:
        nonlocal begin
        begin = time.perf_counter()

    ready = threading.Barrier(len(digits), start)

    def run(number: int) -> None:
        for _ in range(_WARM_UP):
            digits[number](pixels)
        ready.wait()
        while time.perf_counter() < begin + seconds:
            digits[number](pixels)
            runs[number] += 1

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(digits))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(runs) * len(pixels) / (time.perf_counter() - begin)


def run_times(digits: Digits, pixels: Floats, count: int) -> list[float]:
    """Seconds that each of so many runs of one sequence [1, 784] took."""
    took = []
    for _ in range(count):
        begin = time.perf_counter()
        digits(pixels)
        took.append(time.perf_counter() - begin)
    return took
