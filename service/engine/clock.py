"""Time as the engine needs it; an asyncio event loop is such a clock, and tests have one that they set."""

from __future__ import annotations

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
