"""The scheduler's promises, whatever happens in whatever order: without threads, on a clock that is set."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.engine.batching import Answer, Layout, Request
from service.engine.errors import (
    CancelledRequestError,
    DeadlineExceededError,
    EngineStoppedError,
    LaneDiedError,
    OverloadedError,
)
from service.engine.scheduler import MARGIN, Batch, Limits, Scheduler
from tests.service.engine.fakes import POISON, FakeClock, FakeSession, Watch, fake_model, sums

LANES = 2
ROWS = 4
SECONDS = 0.01
NEVER = float("inf")


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
        self.ahead: list[Batch] = []  # what lanes run next
        self.faults: list[str] = []  # of what the scheduler tells, which itself lets pass what that raises
        self.begun: set[Request] = set()
        self.paces: dict[int, float] = {}  # by size, before batches were formed
        self.streams: dict[int, tuple[float, Request | None]] = {}  # what each has summed up, and asks now
        self.stopped = False
        self.begins = 0.0  # when the batch that is asked for can begin

    def submit(
        self, rows: int, *, poison: bool = False, bounded: bool = True, **options: Any
    ) -> Request | None:
        first = next(self.numbers)
        values = [float(first), *(float(next(self.numbers)) for _ in range(rows - 1))]
        if poison:
            values[-1] += 2 * POISON

        def done(answer: Answer) -> None:
            if first in self.answers:
                self.faults.append(f"{first} is answered twice")
            self.answers[first] = answer
            if isinstance(answer, DeadlineExceededError) and not self.late(request):
                self.faults.append(f"{first} is dropped too early")

        request = sums(self.layout, *values, done=done, **options)
        try:
            self.scheduler.submit(request, bounded=bounded)
        except EngineStoppedError:
            assert self.stopped
        except OverloadedError:
            assert bounded
            if self.watch.rejections[-1] == "overload":
                assert self.expected_end(request) > request.deadline - 1e-9
        else:
            assert not self.stopped
            self.asked[first] = request
            return request
        return None

    def expected_end(self, request: Request) -> float:
        """When a new request will have been run, with what goes before it, if it goes slower than the pace
        tells by as much as is allowed for.
        """
        ahead = [other for other in self.scheduler.queue if other.priority <= request.priority]
        seconds = sum(other.seconds * (1 - other.taken / other.rows) for other in ahead)
        rest = sum(max(0.0, batch.begun + batch.seconds - self.clock.now) for batch in self.lanes)
        rest += sum(batch.seconds for batch in self.ahead)
        batch = max(request.rows, ROWS) * self.layout.pace(request.size).seconds
        takes = request.seconds if seconds < batch - 1e-9 else batch
        return self.clock.now + MARGIN * ((seconds + rest) / LANES + takes)

    def next(self, behind: Batch | None = None) -> Batch | None:
        self.paces = {size: self.layout.pace(size).seconds for size in (3, 4)}
        self.begins = self.clock.now
        if behind is not None:
            self.begins = max(self.begins, behind.begun + behind.seconds)
        return self.scheduler.next(behind)

    def late(self, request: Request) -> bool:
        """Whether a request that waits can't be run in time any more, alone, or where others wait as well,
        with as many as run together.
        """
        rows = ROWS if self.scheduler.queue.rows else min(request.rows, ROWS)
        takes = rows * self.paces.get(request.size, 0.0)
        return max(self.begins, self.clock.now) + takes > (request.deadline or NEVER) - 1e-9

    @rule(
        rows=st.integers(1, 2) | st.integers(1, 9),
        priority=st.integers(1, 3),
        size=st.sampled_from([3, 4]),
        poison=st.booleans(),
        patience=st.just(NEVER) | st.integers(1, 30),
    )
    def ask(self, rows: int, priority: int, size: int, poison: bool, patience: float) -> None:
        # In halves of the time that a row takes: enough for some rows, and not for others.
        seconds = patience * self.layout.pace(size).seconds / 2
        deadline = None if patience == NEVER else self.clock.now + seconds
        self.submit(rows, priority=priority, size=size, poison=poison, deadline=deadline)

    @rule(name=st.integers(0, 2))
    def stream_on(self, name: int) -> None:
        """Each piece of a stream begins with the state that the one before ended in."""
        state, request = self.streams.get(name, (0.0, None))
        if request is not None:
            answer = self.answers.get(int(request.inputs["pixels"][0, 0]))
            if request.ended is None:
                return  # it waits for its answer
            if not isinstance(answer, dict):
                state = 0.0  # begun anew
            else:
                expected = state + request.inputs["pixels"][0, 0]
                state = answer["h_next"].item()
                assert state == expected
        request = self.submit(1, priority=1, bounded=False, h=np.full((1, 1), state, np.float32))
        self.streams[name] = state, request

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        first = data.draw(st.sampled_from(sorted(self.asked)))
        self.scheduler.cancel(self.asked[first])
        if first not in self.answers:
            self.cancelled.add(first)

    @precondition(lambda self: len(self.lanes) < LANES and not (self.ahead or self.stopped))
    @rule()
    def start(self) -> None:
        self.lanes += self.take()

    @precondition(lambda self: self.lanes and not (self.ahead or self.stopped))
    @rule()
    def start_ahead(self) -> None:
        self.ahead += self.take(behind=self.lanes[0])

    @precondition(lambda self: self.ahead and len(self.lanes) < LANES)
    @rule()
    def come_to_it(self) -> None:
        batch = self.ahead.pop()
        self.scheduler.began(batch)
        self.lanes.append(batch)

    @precondition(lambda self: self.ahead)
    @rule()
    def give_back(self) -> None:
        self.scheduler.give_back(self.ahead.pop())

    def take(self, behind: Batch | None = None) -> list[Batch]:
        ended, waited = len(self.watch.ends), {*self.scheduler.queue}
        batch = self.next(behind)
        if batch is None:
            assert not self.scheduler.queue.rows
            return []
        assert batch.rows <= ROWS
        requests = [piece.request for piece in batch.pieces]
        assert all(request.ended is None for request in requests)
        new = [request for request in requests if request not in self.begun]
        for request in new:
            # It will have been run in time, as far as the pace tells.
            assert self.begins + batch.seconds <= (request.deadline or NEVER) + 1e-9
            # None that came before it, and goes before it, waits still.
            assert not [
                other
                for other in self.scheduler.queue
                if other not in self.begun
                and (other.key, other.priority) == (request.key, request.priority)
                and other.number < request.number
            ]
        # Or it was led by a more urgent one that came too late, or cut off a batch before.
        if new and ended == len(self.watch.ends) and waited.issuperset(new):
            urgent = min((other.priority for other in self.scheduler.queue if not other.taken), default=3)
            assert min(request.priority for request in requests) <= urgent
        self.begun.update(new)
        return [batch]

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

    @rule(seconds=st.floats(0, 0.01) | st.floats(0, 0.1))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def stop(self) -> None:
        self.scheduler.stop()
        self.stopped = True

    @invariant()
    def keeps_within_its_limits(self) -> None:
        queue = self.scheduler.queue
        assert sum(request.rows - request.taken for request in queue if "h" not in request.inputs) <= 20
        assert self.scheduler.running == len(self.lanes)
        assert self.scheduler.backlog() >= 0

    @invariant()
    def gives_everybody_what_is_theirs(self) -> None:
        assert not self.faults
        for first, answer in self.answers.items():
            request = self.asked[first]
            values = request.inputs["pixels"][:, 0].tolist()
            if isinstance(answer, dict):
                before = request.inputs.get("h", np.zeros(1, np.float32)).item()
                assert answer["h_next"][:, 0].tolist() == [before + value for value in values]
            elif isinstance(answer, DeadlineExceededError):
                assert request.started is None  # dropped while it waited, never after
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
        while self.ahead:
            self.scheduler.give_back(self.ahead.pop())
        while True:
            while self.lanes:
                batch = self.lanes.pop()
                try:
                    self.scheduler.finish(batch, batch.run())
                except RuntimeError as error:
                    self.scheduler.finish(batch, error)
            # an engine that was stopped starts nothing more
            batch_or_none = None if self.stopped else self.next()
            if batch_or_none is None:
                break
            self.lanes.append(batch_or_none)
        assert not self.scheduler.running
        assert not self.scheduler.queue.rows
        assert self.clock.pending == 0
        assert self.answers.keys() | self.cancelled == self.asked.keys()
        self.gives_everybody_what_is_theirs()
        self.tells_each_end_once()


SchedulerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestScheduler = SchedulerMachine.TestCase
