"""What comes of three times as many requests as can be run: as many answers as ever, and those in time."""

from __future__ import annotations

import heapq
from itertools import count

import numpy as np
import pytest

from service.engine.batching import Answer, Layout
from service.engine.errors import OverloadedError
from service.engine.scheduler import Batch, Limits, Scheduler
from tests.service.engine.fakes import FakeClock, fake_model, sums

LANES = 2
ROWS = 4
SECONDS = 20.0
MEASURED = 0.005  # for a row, of four
DELAY = 0.3  # at most, by what else the machine does
ANSWER = {"h_next": np.zeros((ROWS, 1), np.float32)}


def takes(rows: int, delay: float) -> float:
    """Alone a row takes longer than with others."""
    return (0.004 + 0.004 * rows) * (1 + delay)


@pytest.mark.parametrize("patience", [0.1, 0.5, 2.0])
def test_overload_costs_nothing(patience: float) -> None:
    chance = np.random.default_rng(0)
    clock = FakeClock()
    scheduler = Scheduler(clock, LANES, Limits())
    layout = Layout(fake_model(ROWS, MEASURED), ROWS)
    capacity = LANES * ROWS / takes(ROWS, DELAY / 2)
    running: list[tuple[float, int, Batch]] = []
    numbers = count()
    ends: list[tuple[float, Answer]] = []  # by how much before the deadline
    refused = 0
    arrival = 0.0
    while clock.now < SECONDS:
        if running and running[0][0] <= arrival:
            when, _, batch = heapq.heappop(running)
            clock.advance(max(0.0, when - clock.now))
            scheduler.finish(batch, ANSWER)
        else:
            clock.advance(max(0.0, arrival - clock.now))
            arrival += chance.exponential(1 / (3 * capacity))
            deadline = clock.now + patience

            def done(answer: Answer, deadline: float = deadline) -> None:
                ends.append((deadline - clock.now, answer))

            try:
                scheduler.submit(sums(layout, 1, done=done, deadline=deadline))
            except OverloadedError:
                refused += 1
        while len(running) < LANES and (begun := scheduler.next()) is not None:
            heapq.heappush(
                running, (clock.now + takes(begun.rows, DELAY * chance.random()), next(numbers), begun)
            )
    answered = [left for left, answer in ends if isinstance(answer, dict)]
    assert sum(left >= 0 for left in answered) >= 0.95 * capacity * SECONDS
    assert min(answered) > -takes(ROWS, DELAY)  # what has begun is finished
    assert len(ends) - len(answered) <= 0.02 * len(ends)  # the others are told at once
    assert refused >= 1.8 * capacity * SECONDS
