"""What each version of a model has done: counts, histograms of durations, and the last few seconds of both.

Adding is cheap, as it happens in the event loop's thread for every request: durations fall into buckets whose
bounds are fixed.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable

from service.engine.batching import Piece, Request
from service.engine.errors import (
    CancelledRequestError,
    DeadlineExceededError,
    EngineStoppedError,
    LaneDiedError,
)
from service.engine.observer import Refusal

# Seconds: ten steps a decade (the preferred numbers R10), from 100 microseconds to 80 seconds.
_STEPS = ("1", "1.25", "1.6", "2", "2.5", "3.15", "4", "5", "6.3", "8")
BOUNDS = tuple(float(f"{step}e{exponent}") for exponent in range(-4, 2) for step in _STEPS)

RECENT_SECONDS = 10
_AFTERLIFE_SECONDS = 600  # of a version that is not served any more, for its last numbers to be read

_ERRORS: dict[type[Exception], str] = {
    DeadlineExceededError: "deadline",
    CancelledRequestError: "cancelled",
    LaneDiedError: "lane_died",
    EngineStoppedError: "stopped",
}
# Why requests fail: refused, dropped while they waited, given up by their client, or failed when they ran.
FAILURES = ("queue_full", "overload", *_ERRORS.values(), "error")


class Histogram:
    """How long something took, and how often.

    Attributes:
        counts: how many durations lie up to each of BOUNDS and above the one before; the last one, above all.
        ns: all of them together, in nanoseconds.
    """

    __slots__ = ("counts", "ns")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.ns = 0

    def add(self, seconds: float) -> int:
        """Count a duration; returns the number of its bucket."""
        bucket = bisect_left(BOUNDS, seconds)
        self.counts[bucket] += 1
        self.ns += int(1e9 * seconds)
        return bucket

    @property
    def count(self) -> int:
        """How many durations."""
        return sum(self.counts)


def quantile(counts: list[int], share: float) -> float | None:
    """The duration in seconds that this share of them does not exceed, to within its bucket; None if there
    are none.
    """
    total = sum(counts)
    if not total:
        return None
    rank = share * total
    below = 0
    for bucket, count in enumerate(counts[:-1]):
        if count and below + count >= rank:
            low = BOUNDS[bucket - 1] if bucket else 0.0
            return low + (BOUNDS[bucket] - low) * (rank - below) / count
        below += count
    return BOUNDS[-1]


class Recent:
    """What happened in one second, or in several.

    Attributes:
        counts: the durations of the requests that were answered, as a histogram's.
        rows, batches: that ran.
    """

    __slots__ = ("batches", "counts", "rows", "second")

    def __init__(self, second: int = -1) -> None:
        self.second = second
        self.counts = [0] * (len(BOUNDS) + 1)
        self.rows = 0
        self.batches = 0

    @classmethod
    def of(cls, parts: Iterable[Recent]) -> Recent:
        """All of these together."""
        total = cls()
        for part in parts:
            total.counts = [sum(pair) for pair in zip(total.counts, part.counts, strict=True)]
            total.rows += part.rows
            total.batches += part.batches
        return total


class VersionStatistics:
    """One version's, since the engine was made.

    Attributes:
        in_flight: requests that wait or run.
        rows: that ran.
        request, queue, compute: of the requests that were answered: from being queued to being answered, and
            its two parts, before and after a lane took their first row.
        failures: how many requests failed, by reason, one of FAILURES.
        failed_ns: from being queued to failing, all of them together, in nanoseconds.
        batches: those that ran, by rows: how many, and their nanoseconds together.
        failed_batches: those that did not.
        last_inference: when a batch last ran, milliseconds since the epoch; 0 for never.
        touched: when a batch last ran or failed, or it was first asked for anything, in the engine's time.
    """

    def __init__(self, touched: float = 0.0) -> None:
        self.touched = touched
        self.in_flight = 0
        self.rows = 0
        self.request = Histogram()
        self.queue = Histogram()
        self.compute = Histogram()
        self.failures = dict.fromkeys(FAILURES, 0)
        self.failed_ns = 0
        self.batches: dict[int, tuple[int, int]] = {}
        self.failed_batches = 0
        self.last_inference = 0
        self._ring = [Recent() for _ in range(RECENT_SECONDS + 1)]

    @property
    def executions(self) -> int:
        """How many batches ran."""
        return sum(count for count, _ in self.batches.values())

    def during(self, now: float) -> Recent:
        """The second that `now` lies in, to be added to."""
        second = int(now)
        number = second % len(self._ring)
        recent = self._ring[number]
        if recent.second != second:
            recent = self._ring[number] = Recent(second)
        return recent

    def recent(self, now: float) -> Recent:
        """The RECENT_SECONDS seconds before the one that `now` lies in."""
        end = int(now)
        return Recent.of(part for part in self._ring if end - RECENT_SECONDS <= part.second < end)


_Key = tuple[str, str]


class Statistics:
    """An observer that counts.

    Args:
        served: names and versions of what requests can get now.
        clock: the time by which requests are queued and answered.

    Attributes:
        versions: those that were asked for anything, by name and version, until some time after they were
            last served.
    """

    def __init__(
        self,
        served: Callable[[], Iterable[_Key]] = lambda: (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.versions: dict[_Key, VersionStatistics] = {}
        self._served = served
        self._clock = clock

    def of(self, name: str, version: str) -> VersionStatistics:
        """Those of a version, for looking only; of zeros if it was asked for nothing yet."""
        return self.versions.get((name, version)) or VersionStatistics()

    def prune(self) -> None:
        """Let go of versions that are not served any more, and have run nothing for ten minutes."""
        since = self._clock() - _AFTERLIFE_SECONDS
        served = {*self._served()}
        for key, version in [*self.versions.items()]:
            if key not in served and not version.in_flight and version.touched < since:
                del self.versions[key]

    def recent(self, keys: Iterable[_Key]) -> Recent:
        """The last RECENT_SECONDS whole seconds of these versions together."""
        now = self._clock()
        return Recent.of(self.versions[key].recent(now) for key in keys if key in self.versions)

    def admitted(self, request: Request) -> None:
        """See `Observer`."""
        self._of(request).in_flight += 1

    def rejected(self, request: Request, reason: Refusal) -> None:
        """See `Observer`."""
        self._of(request).failures[reason] += 1

    def ran(self, pieces: list[Piece], seconds: float, error: Exception | None) -> None:
        """See `Observer`."""
        version = self._of(pieces[0].request)
        version.touched = now = self._clock()
        if error is not None:
            version.failed_batches += 1
            return
        rows = sum([piece.rows for piece in pieces])
        count, ns = version.batches.get(rows, (0, 0))
        version.batches[rows] = count + 1, ns + int(1e9 * seconds)
        version.rows += rows
        version.last_inference = time.time_ns() // 10**6
        recent = version.during(now)
        recent.rows += rows
        recent.batches += 1

    def ended(self, request: Request, error: Exception | None) -> None:
        """See `Observer`."""
        version = self._of(request)
        version.in_flight -= 1
        ended = request.ended or request.admitted  # never None now
        if error is not None:
            version.failures[_ERRORS.get(type(error), "error")] += 1
            version.failed_ns += int(1e9 * (ended - request.admitted))
            return
        started = request.started or request.admitted  # nor this
        version.queue.add(started - request.admitted)
        version.compute.add(ended - started)
        bucket = version.request.add(ended - request.admitted)
        version.during(ended).counts[bucket] += 1

    def _of(self, request: Request) -> VersionStatistics:
        card = request.layout.model.card
        key = card.name, card.version
        version = self.versions.get(key)
        if version is None:
            self.prune()  # whenever there is more
            version = self.versions[key] = VersionStatistics(self._clock())
        return version
