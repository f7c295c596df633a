"""Time as the engine needs it; an asyncio event loop is such a clock, and tests have one that they set."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol


class Timer(Protocol):
    """What `Clock.call_at` returns."""

    def cancel(self) -> None:
        """Do not call."""


class Clock(Protocol):
    """What is needed of an event loop."""

    def time(self) -> float:
        """Seconds, which never go back."""

    def call_at(self, when: float, callback: Callable[..., object], *args: Any) -> Timer:
        """Call back when `time` is that late."""


class LoopClock:
    """An event loop's time and timers. uvloop's own `time` counts whole milliseconds and stands still while a
    callback runs; like asyncio's, it counts what `time.monotonic` does.

    Args:
        loop: the event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def time(self) -> float:
        """See `Clock`."""
        return time.monotonic()

    def call_at(self, when: float, callback: Callable[..., object], *args: Any) -> Timer:
        """See `Clock`."""
        return self._loop.call_at(when, callback, *args)
