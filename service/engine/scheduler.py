"""Admits requests, says what runs next, and hands each its answer, once. Knows no threads, and only the time
that its clock tells.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from service.engine.batching import LOWEST_PRIORITY, Answer, Layout, Piece, Request
from service.engine.clock import Clock
from service.engine.errors import (
    CancelledRequestError,
    DeadlineExceededError,
    EngineStoppedError,
    InvalidTensorsError,
    OverloadedError,
)
from service.engine.observer import Observer, Refusal
from service.engine.queue import Queue
from service.engine.store import Tensor

log = structlog.get_logger(__name__)

# Requests that may wait for long are admitted if they would be in time though everything took longer by so
# much: what a run takes changes from second to second, and who is refused at once can still go elsewhere.
MARGIN = 1.25


@dataclass(frozen=True)
class Limits:
    """How much may wait; more is refused.

    Attributes:
        rows: of all requests together.
        nbytes: of their inputs.
    """

    rows: int = 1024
    nbytes: int = 256 * 2**20


@dataclass(eq=False, slots=True)
class Batch:
    """What a lane runs.

    Attributes:
        pieces: of requests with equal keys.
        begun: when it began, or is expected to.
        seconds: what it is expected to take.
    """

    pieces: list[Piece]
    begun: float
    seconds: float
    fetches: list[str] = field(init=False)
    inputs: Mapping[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.fetches = self.layout.fetches(self.pieces)
        self.inputs = self.layout.stack(self.pieces)

    @property
    def layout(self) -> Layout:
        """Of the pieces."""
        return self.pieces[0].request.layout

    @property
    def rows(self) -> int:
        """Of all pieces."""
        return sum(piece.rows for piece in self.pieces)

    def run(self) -> dict[str, Tensor]:
        """Run the graph, in the calling thread."""
        return self.layout.model.run(self.inputs, self.fetches)


class Scheduler:
    """
    Args:
        clock: tells the time.
        lanes: how many batches run side by side.
        limits: of what waits.
        observers: are told.

    Attributes:
        queue: what waits; for looking only.
    """

    def __init__(self, clock: Clock, lanes: int, limits: Limits, observers: Iterable[Observer] = ()) -> None:
        self.queue = Queue()
        self._clock = clock
        self._lanes = lanes
        self._limits = limits
        self._observers = [*observers]
        self._halves: deque[list[Piece]] = deque()  # of batches that failed, or were more than had time
        self._running: set[Batch] = set()
        self._ahead: set[Batch] = set()  # given to lanes that still run others
        self._stopped = False

    @property
    def running(self) -> int:
        """How many batches run."""
        return len(self._running)

    @property
    def full(self) -> bool:
        """Whether enough waits to fill a batch."""
        head = self.queue.head
        return head is not None and self.queue.rows >= head.layout.rows(head.size)

    def backlog(self, priority: int = LOWEST_PRIORITY) -> float:
        """Seconds until what runs now, and waits now up to a priority, will have been run, as far as can be
        told.
        """
        return (self.queue.seconds(priority) + self._rest(self._clock.time())) / self._lanes

    def _rest(self, now: float) -> float:
        """Seconds that what runs has still to run."""
        rest = 0.0
        for batch in self._running:
            rest += max(0.0, batch.begun + batch.seconds - now)
        for batch in self._ahead:
            rest += batch.seconds
        return rest

    def submit(self, request: Request, *, bounded: bool = True) -> None:
        """Queue a request.

        Args:
            request: a new one.
            bounded: refuse it where the limits or its deadline say so. Without, as for pieces of streams that
                were admitted as a whole, it is queued in any case.

        Raises:
            OverloadedError, DeadlineExceededError, EngineStoppedError
            InvalidTensorsError: it has more rows, or bytes, than may ever wait.
        """
        if self._stopped:
            raise EngineStoppedError("the engine does not run")
        now = self._clock.time()
        if bounded:
            self._admit(request, now)
        request.admitted = now
        if request.deadline is not None:
            request.timer = self._clock.call_at(request.deadline, self._expire, request)
        self.queue.push(request)
        for observer in self._observers:
            observer.admitted(request)

    def cancel(self, request: Request) -> None:
        """Nobody waits for the request any more: take it out of the queue; if it runs, drop its answer."""
        if request.ended is None:
            request.done = _drop
            self._end(request, CancelledRequestError("nobody waits for it any more"))

    def next(self, behind: Batch | None = None) -> Batch | None:
        """What a lane is to run now, or after a batch that it still runs; None if nothing waits."""
        while True:
            pieces = self._halves.popleft() if self._halves else self.queue.take()
            if not pieces:
                return None
            now = self._clock.time()
            if behind is not None:
                now = max(now, behind.begun + behind.seconds)
            pace = pieces[0].request.layout.pace(pieces[0].request.size).seconds
            seconds = pace * sum([piece.rows for piece in pieces])
            doubtful = [piece for piece in pieces if _doubtful(piece.request, now + seconds)]
            if doubtful:
                pieces = self._in_time(pieces, now, pace)
                if not pieces:
                    continue
                seconds = pace * sum([piece.rows for piece in pieces])
            try:
                batch = Batch(pieces, now, seconds)
            except Exception as error:  # out of memory, or tensors that are not what they seemed
                self._fail(pieces, error)
                continue
            for piece in pieces:
                if piece.request.started is None:
                    piece.request.started = now
                    _disarm(piece.request)
            (self._running if behind is None else self._ahead).add(batch)
            return batch

    def began(self, batch: Batch) -> None:
        """A lane has come to a batch that it was given ahead."""
        self._ahead.discard(batch)
        self._running.add(batch)
        batch.begun = self._clock.time()
        for piece in batch.pieces:
            if not piece.start:
                piece.request.started = batch.begun

    def give_back(self, batch: Batch) -> None:
        """The lane is gone that would have come to a batch that it was given ahead: it is run next."""
        self._ahead.discard(batch)
        if self._stopped:
            for piece in batch.pieces:
                self._end(piece.request, _stopped())
        else:
            self._halves.appendleft(batch.pieces)

    def finish(self, batch: Batch, outcome: Answer) -> None:
        """A lane has run a batch, and got the outputs, or an error."""
        if batch not in self._running:
            return
        self._running.remove(batch)
        seconds = self._clock.time() - batch.begun
        error = outcome if isinstance(outcome, Exception) else None
        for observer in self._observers:
            observer.ran(batch.pieces, seconds, error)
        if isinstance(outcome, Exception):
            self._fail(batch.pieces, outcome)
            return
        layout, size, took = batch.layout, batch.pieces[0].request.size, seconds / batch.rows
        # A batch that isn't full takes longer a row, and tells nothing unless it was faster for all that.
        if 2 * batch.rows > layout.rows(size) or took < layout.pace(size).seconds:
            layout.learn(size, took)
        try:
            answers = layout.split(batch.pieces, outcome)
        except Exception as split:  # out of memory, or outputs that are not what the card says
            for piece in batch.pieces:
                self._end(piece.request, split)
            return
        for piece, answer in zip(batch.pieces, answers, strict=True):
            self._answer(piece, answer)

    def abandon(self, batch: Batch, error: Exception) -> None:
        """The lane that ran the batch is gone: its requests end in the error."""
        if batch in self._running:
            self._running.remove(batch)
            for piece in batch.pieces:
                self._end(piece.request, error)

    def stop(self) -> None:
        """Take no more requests; what waits ends in `EngineStoppedError`. What runs may still be finished."""
        self._stopped = True
        for request in self.queue.clear():
            self._end(request, _stopped())
        for piece in [piece for pieces in self._halves for piece in pieces]:
            self._end(piece.request, _stopped())
        self._halves.clear()

    def _admit(self, request: Request, now: float) -> None:
        limits, queue = self._limits, self.queue
        if request.rows > limits.rows or request.nbytes > limits.nbytes:
            raise InvalidTensorsError(
                f"the request has {request.rows} rows and {request.nbytes} bytes; at most {limits.rows} rows "
                f"and {limits.nbytes} bytes may wait at all: send it in parts"
            )
        if queue.rows + request.rows > limits.rows or queue.nbytes + request.nbytes > limits.nbytes:
            self._reject(request, "queue_full")
            raise OverloadedError(
                f"{queue.rows} rows of {queue.nbytes} bytes wait; at most {limits.rows} rows of "
                f"{limits.nbytes} bytes may",
                _retry_after(self.backlog()),
            )
        if request.deadline is not None:
            if request.deadline <= now:
                self._reject(request, "deadline")
                raise DeadlineExceededError("the request's time was over before it could be queued")
            if queue.rows:
                self._admit_in_time(request, now, request.deadline)

    def _admit_in_time(self, request: Request, now: float, deadline: float) -> None:
        """Refuse a request if what goes before it leaves it no time. Where that is a batch or more, it is to
        have the time for a full one: under load, with no more than its own, each would have to run alone.
        """
        ahead = self.queue.seconds(request.priority)
        backlog = (ahead + self._rest(now)) / self._lanes
        if not ahead or now + MARGIN * (backlog + ahead + request.seconds) <= deadline:  # at once, most often
            return
        batch = request.layout.seconds(request.rows, request.size)
        takes = request.seconds if ahead < batch else batch
        if now + MARGIN * (backlog + takes) > deadline:
            self._reject(request, "overload")
            raise OverloadedError(
                f"what waits takes {backlog:.3g} seconds, the request's batch {takes:.3g}, and might take "
                f"{MARGIN:g} times as long; it has {deadline - now:.3g} seconds",
                _retry_after(backlog),
            )

    def _reject(self, request: Request, reason: Refusal) -> None:
        for observer in self._observers:
            observer.rejected(request, reason)

    def _in_time(self, pieces: list[Piece], now: float, pace: float) -> list[Piece]:
        """Those of a batch to run now, all by their deadlines. What nobody waits for ends here, and what
        comes too late even alone; where one can't wait for the others, they run next.

        While another batch waits, what comes too late for all of this one ends too: small batches take longer
        a row, and if that makes the next ones late, they come to be small again, and so on.
        """
        whole = sum([piece.rows for piece in pieces])
        loaded = self.queue.rows >= whole
        timely: list[Piece] = []
        rows = 0
        latest = math.inf
        for number, piece in enumerate(pieces):
            request = piece.request
            if request.ended is not None:
                continue
            deadline = request.deadline
            # What has begun is finished.
            if deadline is not None and request.started is None:
                seconds = pace * (whole if loaded else piece.rows)
                if now + seconds > deadline:
                    self._give_up(request, seconds)
                    continue
                latest = min(latest, deadline)
            rows += piece.rows
            if timely and now + pace * rows > latest:
                self._halves.appendleft(pieces[number:])
                break
            timely.append(piece)
        return timely

    def _give_up(self, request: Request, seconds: float) -> None:
        """End a request for which there is too little time left. Nothing is learned from what is not run:
        when there is nothing else to run, a pace that was slow for a while is believed a little less each
        time.
        """
        waited = self._clock.time() - request.admitted
        error = DeadlineExceededError(
            f"the request waited for {waited:.3g} seconds and could not be run by its deadline: that takes "
            f"{seconds:.3g} seconds"
        )
        if not self.queue.rows:
            request.layout.relent(request.size)
        self._end(request, error)

    def _expire(self, request: Request) -> None:
        """End a request whose time is over while it waits."""
        if request.started is not None or request.ended is not None:
            return
        waited = self._clock.time() - request.admitted
        error = DeadlineExceededError(
            f"the request waited for {waited:.3g} seconds and was not run by its deadline"
        )
        self._end(request, error)

    def _answer(self, piece: Piece, answer: dict[str, Tensor]) -> None:
        request = piece.request
        if request.ended is not None:
            return
        if not piece.whole:
            request.parts[piece.start] = answer
            request.answered += piece.rows
            if request.answered < request.rows:
                return
            parts = [part for _, part in sorted(request.parts.items(), key=_start)]
            try:
                answer = request.layout.join(parts)
            except Exception as error:  # out of memory
                self._end(request, error)
                return
        self._end(request, answer)

    def _fail(self, pieces: list[Piece], error: Exception) -> None:
        """End in the error, but run a batch again in halves first: only those requests are to fail that
        would fail alone.
        """
        if len(pieces) == 1:
            self._end(pieces[0].request, error)
        elif self._stopped:  # they are not run again
            for piece in pieces:
                self._end(piece.request, _stopped())
        else:
            middle = len(pieces) // 2
            self._halves += [pieces[:middle], pieces[middle:]]

    def _end(self, request: Request, answer: Answer) -> None:
        """The one way in which requests end."""
        if request.ended is not None:
            return
        request.ended = self._clock.time()
        _disarm(request)
        self.queue.remove(request)  # rows of it that have not been taken
        request.parts.clear()
        error = answer if isinstance(answer, Exception) else None
        for observer in self._observers:
            observer.ended(request, error)
        try:
            request.done(answer)
        except Exception:
            log.exception("an answer was not taken")


def _doubtful(request: Request, end: float) -> bool:
    """Whether there may be nothing in running a request up to that time."""
    return request.ended is not None or (request.deadline is not None and request.deadline < end)


def _retry_after(backlog: float) -> float:
    return max(1.0, math.ceil(backlog))


def _stopped() -> EngineStoppedError:
    return EngineStoppedError("the engine was stopped before it came to this request")


def _start(part: tuple[int, object]) -> int:
    return part[0]


def _disarm(request: Request) -> None:
    if request.timer is not None:
        request.timer.cancel()
        request.timer = None


def _drop(_: Answer) -> None:
    pass
