"""What waits, and what is taken: a list is the model of the queue."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.engine.batching import Layout, Request
from service.engine.queue import Queue
from tests.service.engine.fakes import fake_model, sums

ROWS = 4


class QueueMachine(RuleBasedStateMachine):
    """Requests come, are cancelled and are taken in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.layouts = [Layout(fake_model(ROWS), 32), Layout(fake_model(ROWS), 32)]
        self.queue = Queue()
        self.waiting: list[Request] = []

    @rule(
        model=st.integers(0, 1),
        rows=st.integers(1, 9),
        size=st.sampled_from([1, 9]),
        priority=st.integers(1, 3),
    )
    def push(self, model: int, rows: int, size: int, priority: int) -> None:
        request = sums(self.layouts[model], *range(rows), size=size, priority=priority)
        self.queue.push(request)
        self.waiting.append(request)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.waiting))
        assert self.queue.remove(request)
        assert not self.queue.remove(request)
        self.waiting.remove(request)

    @rule()
    def take(self) -> None:
        taken = self.queue.take()
        assert bool(taken) == bool(self.waiting)
        if not taken:
            return
        ordered = sorted(self.waiting, key=lambda request: (request.priority, request.number))
        alike = [request for request in ordered if request.key == ordered[0].key]
        requests = [piece.request for piece in taken]
        rows = sum(piece.rows for piece in taken)
        assert rows <= ROWS
        assert requests[0] is ordered[0]  # the oldest of the most urgent
        assert requests == [request for request in alike if request in requests]  # in order
        for priority in {request.priority for request in requests}:  # and none of a priority is passed over
            level = [request for request in alike if request.priority == priority]
            count = sum(request.priority == priority for request in requests)
            assert [request for request in requests if request.priority == priority] == level[:count]
        for piece in taken:
            assert piece.stop == piece.request.taken
            if piece.stop == piece.request.rows:
                self.waiting.remove(piece.request)
                assert not self.queue.remove(piece.request)  # too late, and harmless
            else:
                assert rows == ROWS  # taken in part only where no more fits

    @rule()
    def clear(self) -> None:
        assert sorted(self.queue.clear(), key=id) == sorted(self.waiting, key=id)
        self.waiting = []

    @invariant()
    def counts(self) -> None:
        assert len(self.queue) == len(self.waiting)
        assert self.queue.rows == sum(request.rows - request.taken for request in self.waiting)
        assert self.queue.nbytes == sum(request.nbytes for request in self.waiting)
        seconds = sum(request.seconds * (1 - request.taken / request.rows) for request in self.waiting)
        assert self.queue.seconds() == pytest.approx(seconds, abs=1e-9)


TestQueue = QueueMachine.TestCase
