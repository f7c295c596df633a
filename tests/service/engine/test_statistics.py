"""What is counted of the requests, told by the scheduler on a clock that is set."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.batching import Answer, Layout, Request
from service.engine.errors import LaneDiedError, OverloadedError
from service.engine.scheduler import Limits, Scheduler
from service.engine.statistics import (
    BOUNDS,
    FAILURES,
    RECENT_SECONDS,
    Histogram,
    Recent,
    Statistics,
    VersionStatistics,
    quantile,
)
from tests.service.engine.fakes import POISON, FakeClock, fake_model, sums

MILLISECOND = 0.001


class Bench:
    """A scheduler that tells its statistics, and a lane that runs what it is told to."""

    def __init__(self) -> None:
        self.clock = FakeClock(1000.0)
        self.served = {("digits", "1")}
        self.statistics = Statistics(lambda: self.served, self.clock.time)
        self.layout = Layout(fake_model(rows=4, seconds=0.01), 32)
        self.scheduler = Scheduler(self.clock, 1, Limits(rows=10), [self.statistics])

    def submit(self, *values: float, deadline: float | None = None) -> Request:
        request = sums(self.layout, *values, deadline=deadline)
        self.scheduler.submit(request)
        return request

    def run(self, seconds: float = 0.01) -> None:
        """Run one batch."""
        batch = self.scheduler.next()
        assert batch is not None
        outcome: Answer
        try:
            outcome = batch.run()
        except RuntimeError as error:
            outcome = error
        self.clock.advance(seconds)
        self.scheduler.finish(batch, outcome)

    @property
    def counted(self) -> VersionStatistics:
        return self.statistics.versions["digits", "1"]

    @property
    def failures(self) -> dict[str, int]:
        return {reason: count for reason, count in self.counted.failures.items() if count}


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_requests_time_is_what_it_waited_and_what_it_ran(bench: Bench) -> None:
    bench.submit(1.0)
    bench.clock.advance(3 * MILLISECOND)
    bench.run(7 * MILLISECOND)
    counted = bench.counted
    for histogram, milliseconds in ((counted.queue, 3), (counted.compute, 7), (counted.request, 10)):
        assert histogram.count == 1
        assert histogram.ns == pytest.approx(1e6 * milliseconds, abs=2)
    assert counted.queue.counts[BOUNDS.index(0.00315)] == 1
    assert abs(counted.last_inference - 1000 * time.time()) < 60_000


def test_batches_are_counted_by_their_rows(bench: Bench) -> None:
    bench.submit(1.0)
    bench.submit(2.0, 3.0)
    bench.run(0.01)
    bench.submit(4.0)
    bench.run(0.02)
    bench.submit(5.0, 6.0, 7.0)
    bench.run(0.03)
    batches = {rows: (count, round(ns / 1e6)) for rows, (count, ns) in bench.counted.batches.items()}
    assert batches == {3: (2, 40), 1: (1, 20)}
    assert (bench.counted.rows, bench.counted.executions) == (7, 3)
    assert bench.counted.request.count == 4


def test_requests_are_in_flight_from_being_queued_until_they_end(bench: Bench) -> None:
    bench.submit(1.0, 2.0, 3.0, 4.0)
    waiting = bench.submit(5.0)
    assert bench.counted.in_flight == 2
    bench.run()
    assert bench.counted.in_flight == 1
    bench.scheduler.cancel(waiting)
    assert bench.counted.in_flight == 0


def refuse_for_the_queue(bench: Bench) -> None:
    bench.submit(*range(10))
    with pytest.raises(OverloadedError):
        bench.submit(1.0)


def refuse_for_the_time(bench: Bench) -> None:
    bench.submit(*range(10))
    bench.scheduler._limits = Limits(rows=100)
    with pytest.raises(OverloadedError):
        bench.submit(1.0, deadline=bench.clock.now + MILLISECOND)


def refuse_for_the_deadline(bench: Bench) -> None:
    with pytest.raises(TimeoutError):
        bench.submit(1.0, deadline=bench.clock.now)


def let_wait_too_long(bench: Bench) -> None:
    bench.submit(1.0, deadline=bench.clock.now + 1.0)
    bench.clock.advance(2.0)


def cancel(bench: Bench) -> None:
    bench.scheduler.cancel(bench.submit(1.0))


def poison(bench: Bench) -> None:
    bench.submit(2 * POISON)
    bench.run()
    assert bench.counted.failed_batches == 1


def kill_the_lane(bench: Bench) -> None:
    bench.submit(1.0)
    batch = bench.scheduler.next()
    assert batch is not None
    bench.scheduler.abandon(batch, LaneDiedError("it ended"))


def stop(bench: Bench) -> None:
    bench.submit(1.0)
    bench.scheduler.stop()


@pytest.mark.parametrize(
    ("fail", "reason"),
    [
        (refuse_for_the_queue, "queue_full"),
        (refuse_for_the_time, "overload"),
        (refuse_for_the_deadline, "deadline"),
        (let_wait_too_long, "deadline"),
        (cancel, "cancelled"),
        (poison, "error"),
        (kill_the_lane, "lane_died"),
        (stop, "stopped"),
    ],
)
def test_failures_are_counted_by_their_reason(
    bench: Bench, fail: Callable[[Bench], None], reason: str
) -> None:
    fail(bench)
    assert bench.failures == {reason: 1}
    assert bench.counted.request.count == 0
    assert reason in FAILURES


def test_only_what_failed_of_a_batch_is_a_failure(bench: Bench) -> None:
    bench.submit(1.0)
    bench.submit(2 * POISON)
    for _ in range(3):  # together, and each half
        bench.run()
    assert (bench.failures, bench.counted.request.count) == ({"error": 1}, 1)
    assert (bench.counted.failed_batches, bench.counted.executions) == (2, 1)


def test_versions_are_counted_apart(bench: Bench) -> None:
    assert bench.statistics.of("digits", "1").in_flight == 0
    assert not bench.statistics.versions  # asking is not counting
    bench.submit(1.0)
    assert bench.statistics.of("digits", "1").in_flight == 1
    assert bench.statistics.of("digits", "2").in_flight == 0


def test_recent_is_what_happened_in_the_last_whole_seconds(bench: Bench) -> None:
    def recent() -> Recent:
        return bench.statistics.recent([("digits", "1"), ("frames", "1")])

    bench.submit(1.0, 2.0)
    bench.run(0.25)
    assert recent().batches == 0  # this second is not over
    bench.clock.advance(0.75)
    assert (recent().rows, recent().batches, sum(recent().counts)) == (2, 1, 1)
    assert quantile(recent().counts, 0.5) == pytest.approx(0.25, rel=0.25)
    bench.clock.advance(RECENT_SECONDS - 1)
    assert recent().rows == 2
    bench.clock.advance(1)
    assert (recent().rows, sum(recent().counts)) == (0, 0)


@given(st.lists(st.floats(0, 200), min_size=1, max_size=50))
def test_a_histogram_puts_each_duration_where_it_belongs(durations: list[float]) -> None:
    histogram = Histogram()
    for duration in durations:
        bucket = histogram.add(duration)
        assert duration <= (*BOUNDS, math.inf)[bucket]
        assert bucket == 0 or duration > BOUNDS[bucket - 1]
    assert histogram.count == len(durations)
    assert histogram.ns == pytest.approx(1e9 * sum(durations), rel=1e-9, abs=len(durations))


@given(st.lists(st.floats(1.01 * BOUNDS[0], BOUNDS[-1]), min_size=1, max_size=50), st.floats(0.01, 1.0))
def test_a_quantile_is_right_to_within_its_bucket(durations: list[float], share: float) -> None:
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    exact = sorted(durations)[math.ceil(share * len(durations)) - 1]
    found = quantile(histogram.counts, share)
    assert found is not None
    assert exact / 1.28 <= found <= exact * 1.28  # the widest step between two bounds, and rounding


def test_no_durations_have_no_quantile() -> None:
    assert quantile(Histogram().counts, 0.5) is None


def test_bounds_rise() -> None:
    assert list(BOUNDS) == sorted(set(BOUNDS))
    assert (BOUNDS[0], BOUNDS[-1]) == (0.0001, 80.0)


def test_versions_that_are_not_served_are_forgotten_after_a_while() -> None:
    """By the engine's time: the wall clock may jump."""
    bench = Bench()
    bench.submit(1)
    bench.run()
    bench.clock.advance(10_000)
    bench.statistics.prune()
    assert bench.counted.rows == 1  # it is served
    bench.served.clear()
    bench.submit(2)
    bench.run()
    bench.clock.advance(500)
    bench.statistics.prune()
    assert bench.counted.rows == 2
    bench.submit(3)
    bench.clock.advance(500)
    bench.statistics.prune()
    assert bench.counted.in_flight == 1
    bench.run()
    bench.clock.advance(601)
    bench.statistics.prune()
    assert not bench.statistics.versions


def test_no_more_versions_are_kept_than_are_served_or_were_lately() -> None:
    bench = Bench()
    for number in range(100):
        card = bench.layout.model.card.model_copy(update={"version": str(number)})
        bench.layout = Layout(replace(bench.layout.model, card=card), 32)
        bench.served = {("digits", str(number))}
        bench.submit(1)
        bench.run()
        bench.clock.advance(200)
    assert len(bench.statistics.versions) <= 5
    assert ("digits", "99") in bench.statistics.versions
