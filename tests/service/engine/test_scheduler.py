"""The scheduler's promises, whatever happens in whatever order: without threads, on a clock that is set."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.engine.batching import Answer, Layout, Request
from service.engine.errors import (
    CancelledRequestError,
    DeadlineExceededError,
    EngineStoppedError,
    InvalidTensorsError,
    LaneDiedError,
    OverloadedError,
)
from service.engine.scheduler import Batch, Limits, Scheduler
from tests.service.engine.fakes import POISON, FakeClock, FakeSession, fake_model, sums

LANES = 2
ROWS = 4
SECONDS = 0.01


class Watch:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.ends: list[tuple[Request, Exception | None]] = []
        self.rejections: list[str] = []

    def admitted(self, request: Request) -> None:
        assert request.ended is None

    def rejected(self, _: Request, reason: str) -> None:
        self.rejections.append(reason)

    def ran(self, _: object, seconds: float, __: Exception | None) -> None:
        assert seconds >= 0

    def ended(self, request: Request, error: Exception | None) -> None:
        self.ends.append((request, error))


class SchedulerMachine(RuleBasedStateMachine):
    """Requests with numbers of their own come in, lanes take and finish batches, time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.session = FakeSession()
        model = fake_model(ROWS, SECONDS, self.session)
        self.layout = Layout(model, 32)
        self.watch = Watch()
        self.scheduler = Scheduler(self.clock, LANES, Limits(rows=20), [self.watch])
        self.numbers = count(1)
        self.asked: dict[int, Request] = {}
        self.answers: dict[int, Answer] = {}
        self.cancelled: set[int] = set()
        self.lanes: list[Batch] = []
        self.stopped = False

    def submit(self, rows: int, *, poison: bool = False, bounded: bool = True, **options: object) -> None:
        first = next(self.numbers)
        values = [float(first), *(float(next(self.numbers)) for _ in range(rows - 1))]
        if poison:
            values[-1] += 2 * POISON

        def done(answer: Answer) -> None:
            assert first not in self.answers  # nothing is answered twice
            self.answers[first] = answer

        request = sums(self.layout, *values, done=done, **options)  # type: ignore[arg-type]
        try:
            self.scheduler.submit(request, bounded=bounded)
        except EngineStoppedError:
            assert self.stopped
        except OverloadedError:
            assert bounded
            assert self.watch.rejections
        else:
            assert not self.stopped
            self.asked[first] = request

    @rule(
        rows=st.integers(1, 9), priority=st.integers(1, 3), size=st.sampled_from([3, 4]), poison=st.booleans()
    )
    def ask(self, rows: int, priority: int, size: int, poison: bool) -> None:
        self.submit(rows, priority=priority, size=size, poison=poison)

    @rule(rows=st.integers(1, 9), patience=st.floats(0.001, 0.2))
    def ask_with_a_deadline(self, rows: int, patience: float) -> None:
        self.submit(rows, deadline=self.clock.now + patience)

    @rule()
    def stream_on(self) -> None:
        self.submit(1, priority=1, bounded=False, h=np.zeros((1, 1), np.float32))

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        first = data.draw(st.sampled_from(sorted(self.asked)))
        self.scheduler.cancel(self.asked[first])
        if first not in self.answers:
            self.cancelled.add(first)

    @precondition(lambda self: len(self.lanes) < LANES and not self.stopped)
    @rule()
    def start(self) -> None:
        batch = self.scheduler.next()
        if batch is None:
            assert not self.scheduler.queue.rows
        else:
            assert batch.rows <= ROWS
            assert all(piece.request.ended is None for piece in batch.pieces)
            assert all(
                piece.request.deadline is None or piece.start or self.clock.now <= piece.request.deadline
                for piece in batch.pieces
            )
            self.lanes.append(batch)

    @precondition(lambda self: self.lanes)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        batch = self.lanes.pop(data.draw(st.integers(0, len(self.lanes) - 1)))
        outcome: Answer
        try:
            outcome = batch.run()
        except RuntimeError as error:
            outcome = error
        self.scheduler.finish(batch, outcome)
        self.scheduler.finish(batch, outcome)  # again changes nothing

    @precondition(lambda self: self.lanes)
    @rule()
    def die(self) -> None:
        batch = self.lanes.pop()
        self.scheduler.abandon(batch, LaneDiedError("gone"))
        for piece in batch.pieces:
            assert piece.request.ended is not None

    @rule(seconds=st.floats(0, 0.1))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def stop(self) -> None:
        self.scheduler.stop()
        self.stopped = True

    @invariant()
    def keeps_within_its_limits(self) -> None:
        queue = self.scheduler.queue
        assert sum(request.rows - request.taken for request in queue if request.priority > 1) <= 20
        assert self.scheduler.running == len(self.lanes)
        assert self.scheduler.backlog() >= 0

    @invariant()
    def gives_everybody_what_is_theirs(self) -> None:
        for first, answer in self.answers.items():
            request = self.asked[first]
            values = request.inputs["pixels"][:, 0].tolist()
            if isinstance(answer, dict):
                assert answer["h_next"][:, 0].tolist() == values
            elif isinstance(answer, DeadlineExceededError):
                assert request.started is None  # dropped while it waited, never after
                assert request.deadline is not None
            elif isinstance(answer, RuntimeError) and str(answer) == "poison":
                assert max(values) > POISON  # only those fail that would fail alone
            else:
                assert isinstance(answer, LaneDiedError | EngineStoppedError)
        assert not self.cancelled & self.answers.keys()

    @invariant()
    def tells_each_end_once(self) -> None:
        ended = [request for request, _ in self.watch.ends]
        assert len(ended) == len(set(map(id, ended))) == len(self.answers) + len(self.cancelled)
        for request, error in self.watch.ends:
            assert request.ended is not None
            assert isinstance(error, CancelledRequestError) == (
                request.inputs["pixels"][0, 0] in self.cancelled
                or request.inputs["pixels"][0, 0] - 2 * POISON in self.cancelled
            )

    def teardown(self) -> None:
        """Whatever was left to do is done: then nothing is lost."""
        while True:
            while self.lanes:
                batch = self.lanes.pop()
                try:
                    self.scheduler.finish(batch, batch.run())
                except RuntimeError as error:
                    self.scheduler.finish(batch, error)
            # an engine that was stopped starts nothing more
            batch_or_none = None if self.stopped else self.scheduler.next()
            if batch_or_none is None:
                break
            self.lanes.append(batch_or_none)
        assert self.scheduler.idle
        assert self.clock.pending == 0
        assert self.answers.keys() | self.cancelled == self.asked.keys()
        self.gives_everybody_what_is_theirs()
        self.tells_each_end_once()


SchedulerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestScheduler = SchedulerMachine.TestCase


Ask = Callable[..., tuple[Request, list[Answer]]]


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
        OverloadedError, match=r"what waits takes 0\.9 seconds; the request has 0\.5 sec"
    ) as caught:
        ask(scheduler, layout, 1, deadline=1000.5)
    assert caught.value.retry_after == 1
    ask(scheduler, layout, 1, deadline=1001.0)
    assert watch.rejections == ["overload"]


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
