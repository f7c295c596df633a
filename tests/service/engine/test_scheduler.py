"""What the scheduler admits, in which order it is run, and what ends it: on a clock that is set."""

from __future__ import annotations

import pytest

from service.engine.batching import Answer, Layout
from service.engine.errors import DeadlineExceededError, InvalidTensorsError, OverloadedError
from service.engine.scheduler import Limits, Scheduler
from tests.service.engine.fakes import FakeClock, Watch, fake_model, sums

ROWS = 4
SECONDS = 0.01


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1000.0)


@pytest.fixture
def layout() -> Layout:
    return Layout(fake_model(ROWS, SECONDS), 32)


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def scheduler(clock: FakeClock, watch: Watch) -> Scheduler:
    return Scheduler(clock, 1, Limits(rows=100, nbytes=10_000), [watch])


def ask(scheduler: Scheduler, layout: Layout, *values: float, **options: object) -> list[Answer]:
    answers: list[Answer] = []
    scheduler.submit(sums(layout, *values, done=answers.append, **options))  # type: ignore[arg-type]
    return answers


def test_the_deadline_is_kept_while_another_runs(
    scheduler: Scheduler, layout: Layout, clock: FakeClock
) -> None:
    """A timer of its own drops a request at its time, though no lane becomes free (triton#7512)."""
    ask(scheduler, layout, 1)
    running = scheduler.next()
    answers = ask(scheduler, layout, 2, deadline=1001.0)
    clock.advance(0.99)
    assert not answers
    clock.advance(0.02)
    assert isinstance(answers[0], DeadlineExceededError)
    assert str(answers[0]) == "the request waited for 1.01 seconds and was not run by its deadline"
    assert running is not None
    scheduler.finish(running, running.run())
    assert scheduler.next() is None


def test_what_cannot_be_run_in_time_is_not_begun(
    scheduler: Scheduler, layout: Layout, clock: FakeClock
) -> None:
    answers = ask(scheduler, layout, 1, deadline=1001.0)
    clock.now = 1001.0 - SECONDS / 2  # the timer is late: the loop had other things to do
    assert scheduler.next() is None
    assert isinstance(answers[0], DeadlineExceededError)


def test_what_runs_is_finished_though_its_time_is_over(
    scheduler: Scheduler, layout: Layout, clock: FakeClock
) -> None:
    answers = ask(scheduler, layout, 1, deadline=1001.0)
    batch = scheduler.next()
    clock.advance(5)
    assert batch is not None
    assert not answers
    scheduler.finish(batch, batch.run())
    assert isinstance(answers[0], dict)


def test_a_request_that_would_wait_too_long_is_refused(
    scheduler: Scheduler, layout: Layout, watch: Watch
) -> None:
    """Told at once, with when to come back; not after it has waited in vain (users cannot tell overload from
    failure: pytorch/serve#2764).
    """
    for _ in range(9):
        ask(scheduler, layout, *range(10))
    with pytest.raises(
        OverloadedError,
        match=r"what waits takes 0\.9 seconds, the request's batch 0\.04, and might take 1\.25 times as "
        r"long; it has 0\.5 seconds",
    ) as caught:
        ask(scheduler, layout, 1, deadline=1000.5)
    assert caught.value.retry_after == 1
    with pytest.raises(OverloadedError):
        ask(scheduler, layout, 1, deadline=1001.1)
    ask(scheduler, layout, 1, deadline=1001.2)
    assert watch.rejections == ["overload", "overload"]


def test_a_full_queue_refuses_by_rows_and_by_bytes(
    scheduler: Scheduler, layout: Layout, watch: Watch
) -> None:
    for _ in range(10):
        ask(scheduler, layout, *range(10))
    with pytest.raises(
        OverloadedError, match="100 rows of 2000 bytes wait; at most 100 rows of 10000 bytes may"
    ):
        ask(scheduler, layout, 1)
    while (batch := scheduler.next()) is not None:
        scheduler.finish(batch, batch.run())
    ask(scheduler, layout, 1, size=2000)
    with pytest.raises(OverloadedError, match="1 rows of 8004 bytes wait"):
        ask(scheduler, layout, 1, size=1000)
    assert watch.rejections == ["queue_full"] * 2


def test_what_can_never_be_admitted_is_told_so(scheduler: Scheduler, layout: Layout) -> None:
    with pytest.raises(
        InvalidTensorsError, match="the request has 101 rows and 2020 bytes; at most 100 rows"
    ):
        ask(scheduler, layout, *range(101))


def test_a_late_request_is_refused(scheduler: Scheduler, layout: Layout, watch: Watch) -> None:
    with pytest.raises(DeadlineExceededError, match="over before it could be queued"):
        ask(scheduler, layout, 1, deadline=1000.0)
    assert watch.rejections == ["deadline"]


def test_big_requests_are_run_in_pieces(scheduler: Scheduler, layout: Layout) -> None:
    """No batch is larger than runs fastest, however many rows a request has (BentoML#3710)."""
    answers = ask(scheduler, layout, *range(10))
    small = ask(scheduler, layout, 77)
    batches = []
    while (batch := scheduler.next()) is not None:
        batches.append(batch.inputs["pixels"][:, 0].tolist())
        scheduler.finish(batch, batch.run())
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 77]]
    assert isinstance(answers[0], dict)
    assert answers[0]["h_next"][:, 0].tolist() == [*range(10)]
    assert isinstance(small[0], dict)


def test_priorities(scheduler: Scheduler, layout: Layout) -> None:
    order: list[float] = []
    for value, priority in ((1, 3), (2, 2), (3, 1), (4, 2), (5, 1), (6, 3)):
        ask(scheduler, layout, value, priority=priority, size=2**value)  # no two of a size
    while (batch := scheduler.next()) is not None:
        order += batch.inputs["pixels"][:, 0].tolist()
        scheduler.finish(batch, batch.run())
    assert order == [3, 5, 2, 4, 1, 6]


def test_the_pace_is_learned(scheduler: Scheduler, layout: Layout, clock: FakeClock) -> None:
    for _ in range(100):
        ask(scheduler, layout, 1, 2, 3, 4)
        batch = scheduler.next()
        assert batch is not None
        clock.advance(0.4)
        scheduler.finish(batch, batch.run())
    ask(scheduler, layout, *range(20))
    assert scheduler.backlog() == pytest.approx(2.0, rel=0.01)


def run(scheduler: Scheduler, clock: FakeClock, seconds: float) -> list[float]:
    """Run the next batch, which takes so long; the rows that were in it."""
    batch = scheduler.next()
    assert batch is not None
    clock.advance(seconds)
    scheduler.finish(batch, batch.run())
    rows: list[float] = batch.inputs["pixels"][:, 0].tolist()
    return rows


def slow_down(scheduler: Scheduler, layout: Layout, clock: FakeClock) -> None:
    for _ in range(50):
        ask(scheduler, layout, 1, 2, 3, 4)
        run(scheduler, clock, 1.2)


def test_a_slow_time_is_forgotten_when_lone_requests_are_fast(
    scheduler: Scheduler, layout: Layout, clock: FakeClock
) -> None:
    """An idle server does not tell that it has no time (BentoML#4670)."""
    slow_down(scheduler, layout, clock)
    for _ in range(1000):
        ask(scheduler, layout, 1)
        run(scheduler, clock, 0.01)
    answers = ask(scheduler, layout, 1, deadline=clock.now + 0.2)
    run(scheduler, clock, 0.01)
    assert isinstance(answers[0], dict)


def test_a_slow_time_is_forgotten_though_nobody_is_as_patient(
    scheduler: Scheduler, layout: Layout, clock: FakeClock
) -> None:
    slow_down(scheduler, layout, clock)
    dropped: list[Answer] = []
    for _ in range(10):
        answers = ask(scheduler, layout, 1, deadline=clock.now + 0.2)
        if scheduler.next() is not None:
            break
        dropped += answers
    assert 1 <= len(dropped) < 10
    first = dropped[0]
    assert isinstance(first, DeadlineExceededError)
    assert str(first) == (
        "the request waited for 0 seconds and could not be run by its deadline: that takes 0.299 seconds"
    )


def test_what_has_no_time_for_a_full_batch_is_run_without_the_others(
    scheduler: Scheduler, layout: Layout, clock: FakeClock
) -> None:
    hurried = [ask(scheduler, layout, n, deadline=clock.now + 2.5 * SECONDS) for n in (1, 2)]
    patient = [ask(scheduler, layout, n) for n in (3, 4, 5)]
    assert run(scheduler, clock, 0.02) == [1, 2]
    assert run(scheduler, clock, 0.02) == [3, 4]
    assert run(scheduler, clock, 0.02) == [5]
    assert all(isinstance(answer, dict) for (answer,) in hurried + patient)


def test_what_waits_behind_a_request_does_not_count_against_it(
    scheduler: Scheduler, layout: Layout, clock: FakeClock, watch: Watch
) -> None:
    for _ in range(9):
        ask(scheduler, layout, *range(10), priority=3)
    with pytest.raises(OverloadedError):
        ask(scheduler, layout, 1, priority=3, deadline=clock.now + 0.5)
    answers = [ask(scheduler, layout, n, priority=n, deadline=clock.now + 0.1) for n in (2, 1)]
    assert run(scheduler, clock, 0.04)[:2] == [1, 2]
    assert all(isinstance(answer, dict) for (answer,) in answers)
    assert watch.rejections == ["overload"]


@pytest.mark.parametrize("step", ["split", "join"])
def test_outputs_that_cannot_be_given_out_end_their_requests(
    scheduler: Scheduler, layout: Layout, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Layout, step, fail)
    answers = ask(scheduler, layout, *range(6))
    while (batch := scheduler.next()) is not None:
        scheduler.finish(batch, batch.run())
    assert [type(answer) for answer in answers] == [MemoryError]
    assert not scheduler.running
