"""Models that run in numpy, a clock that is set, and an observer."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import numpy as np

from exports.card import Card
from service.engine.batching import Layout, Request
from service.engine.clock import Timer
from service.engine.store import Model
from service.engine.tuning import Pace
from tests.service.conftest import small_card

POISON = 1e6  # a row whose pixels sum up to more breaks the batch it is in


class FakeSession:
    """Sums the pixels of each row up, as the small graph does; knows what it was fed."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []

    def run(self, outputs: Sequence[str], feeds: dict[str, np.ndarray], _: object) -> list[np.ndarray]:
        sums = feeds["pixels"].sum(axis=1, keepdims=True)
        self.batches.append(sums[:, 0].tolist())
        if (sums > POISON).any():
            raise RuntimeError("poison")
        answers = {
            "h_next": sums + feeds["h"],
            "trace": feeds["pixels"].cumsum(axis=1)[:, :, None].repeat(10, axis=2),
            "probabilities": sums.repeat(10, axis=1),
        }
        return [answers[name] for name in outputs]


class Mortal(FakeSession):
    """A session that ends the thread that runs it, at certain rows."""

    def run(self, outputs: Sequence[str], feeds: dict[str, np.ndarray], options: object) -> list[np.ndarray]:
        if (feeds["pixels"] > 100).any():
            raise SystemExit
        return super().run(outputs, feeds, options)


def fake_model(rows: int = 4, seconds: float = 0.01, session: Any = None) -> Model:
    """A model with the digits contract that runs so many rows together, each in so many seconds."""
    card = Card.model_validate(small_card(b"graph", "digits", "1"))
    return Model(card, FakeSession() if session is None else session, (Pace(4, rows, seconds),))


def sums(
    layout: Layout,
    *values: float,
    size: int = 4,
    outputs: Sequence[str] = ("h_next",),
    done: Callable[[Any], object] = lambda _: None,
    deadline: float | None = None,
    priority: int = 2,
    **states: np.ndarray,
) -> Request:
    """A request of a row a value, in which the pixels' sum is the value."""
    pixels = np.zeros((len(values), size), np.float32)
    pixels[:, 0] = values
    inputs = {"pixels": pixels, "lengths": np.full(len(values), size, np.int32), **states}
    return Request(layout, inputs, outputs, done, deadline, priority)


class FakeTimer:
    """See `Timer`."""

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeClock:
    """Time passes when told to."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self._timers: list[tuple[float, int, FakeTimer, Callable[..., object], tuple[Any, ...]]] = []
        self._numbers = count()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[..., object], *args: Any) -> Timer:
        timer = FakeTimer()
        heapq.heappush(self._timers, (when, next(self._numbers), timer, callback, args))
        return timer

    @property
    def pending(self) -> int:
        """How many timers have neither been called nor cancelled."""
        return sum(not timer.cancelled for _, _, timer, _, _ in self._timers)

    def advance(self, seconds: float) -> None:
        """Let time pass, and call what is due."""
        self.now += seconds
        while self._timers and self._timers[0][0] <= self.now:
            _, _, timer, callback, args = heapq.heappop(self._timers)
            if not timer.cancelled:
                callback(*args)


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
