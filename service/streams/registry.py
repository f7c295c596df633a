"""What has state between requests: live streams on WebSockets, and sequences of requests under /v2. How many
there may be, when one is given up, and why one ended.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import structlog

from service.engine import Clock, EngineStoppedError, OverloadedError, Timer

log = structlog.get_logger(__name__)

RETRY_SECONDS = 5  # until there may be room again
_REMEMBERED = 4096  # streams that ended, of which it can be told why


class TooManyStreamsError(OverloadedError):
    """As many streams are open as may be."""


class Kind(StrEnum):
    """Which protocol a stream came by."""

    LIVE = "stream"
    SEQUENCE = "sequence"


class Reason(StrEnum):
    """Why a stream ended, or a connection was taken from it."""

    FINISHED = "finished"
    IDLE = "idle"
    EXPIRED = "expired"
    FAILED = "failed"
    MOVED = "moved"
    RESTARTED = "restarted"
    SHUTDOWN = "shutdown"
    TAKEN_OVER = "taken over"


class Stream(Protocol):
    """What the registry has to know of a stream."""

    @property
    def kind(self) -> Kind:
        """Which protocol it came by."""

    @property
    def key(self) -> Hashable:
        """Its name; of those that are open it is the only one."""

    @property
    def touched(self) -> float:
        """When it was last given work, or work of it was finished."""

    @property
    def busy(self) -> bool:
        """Whether work of it waits or runs."""

    @property
    def patience(self) -> float:
        """Seconds for which it may be left alone from then on."""

    @property
    def neglect(self) -> Reason:
        """Why it ends after that."""

    @property
    def memory(self) -> Any:
        """What is remembered of it when it is gone."""

    def describe(self) -> dict[str, Any]:
        """What the log tells of it when it ends."""

    def stop(self, reason: Reason) -> bool:
        """It has ended. Whether it is kept nevertheless, for its patience, for somebody to fetch what it
        came to.
        """


@dataclass(frozen=True)
class Ending:
    """What is remembered of a stream that is gone.

    Attributes:
        memory: the stream's own.
        reason: why it ended.
        when: it was forgotten.
        patience: seconds for which it had been left alone, if that was why.
    """

    memory: Any
    reason: Reason
    when: float
    patience: float


class Registry:
    """All streams, from when they are opened until nobody can go on with them.

    An open stream ends by one way, `end`, and for one reason: that of its own, or that it was left alone for
    too long, counted from when its last work was finished.

    Args:
        most: how many may be open.
        clock: is asked for the clock; in a server it is the event loop.

    Attributes:
        opened, rejected, ended: how many there were so far, by kind; the last one by reason too.
        resumed: how often another connection went on with a stream.
        closed: whether no more are opened.
    """

    def __init__(self, most: int, clock: Callable[[], Clock] = asyncio.get_running_loop) -> None:
        self.opened: Counter[Kind] = Counter()
        self.rejected: Counter[Kind] = Counter()
        self.ended: Counter[tuple[Kind, Reason]] = Counter()
        self.resumed = 0
        self.closed = False
        self._most = most
        self._clock = clock
        self._open: dict[Hashable, Stream] = {}
        self._kept: OrderedDict[Hashable, Stream] = OrderedDict()
        self._timers: dict[Hashable, Timer] = {}
        self._endings: OrderedDict[Hashable, Ending] = OrderedDict()

    def __len__(self) -> int:
        """How many streams are open."""
        return len(self._open)

    @property
    def open(self) -> list[Stream]:
        """Those that are open."""
        return [*self._open.values()]

    def add(self, stream: Stream) -> None:
        """Open a stream. Its key is new.

        Raises:
            TooManyStreamsError
            EngineStoppedError: the server is being stopped.
        """
        if self.closed:
            raise EngineStoppedError("the server is shutting down")
        if len(self._open) >= self._most:
            self.rejected[stream.kind] += 1
            raise TooManyStreamsError(
                f"{len(self._open)} streams are open, as many as this server takes", RETRY_SECONDS
            )
        self.opened[stream.kind] += 1
        self._endings.pop(stream.key, None)
        self._open[stream.key] = stream
        self._watch(stream)

    def get(self, key: Hashable) -> Stream | None:
        """The stream that is open, or kept, under this key."""
        return self._open.get(key) or self._kept.get(key)

    def ending(self, key: Hashable) -> tuple[Ending, float] | None:
        """What became of the stream that had this key, and how many seconds ago; None if it is not known."""
        ending = self._endings.get(key)
        return None if ending is None else (ending, self._clock().time() - ending.when)

    def end(self, stream: Stream, reason: Reason) -> None:
        """End an open stream: the only way out."""
        if self._open.get(stream.key) is not stream:
            return
        del self._open[stream.key]
        self.ended[stream.kind, reason] += 1
        log.info(stream.kind, reason=str(reason), **stream.describe())
        patience = stream.patience
        if not stream.stop(reason):
            self._forget(stream, reason, patience)
            return
        self._kept[stream.key] = stream
        if len(self._kept) > self._most:
            oldest = next(iter(self._kept.values()))
            self._forget(oldest, reason, oldest.patience)

    def forget(self, stream: Stream, reason: Reason) -> None:
        """Give up a stream, whether it is open or kept."""
        self.end(stream, reason)
        if self._kept.get(stream.key) is stream:
            self._forget(stream, reason, stream.patience)

    def watch(self, stream: Stream) -> None:
        """Its patience has changed."""
        if self.get(stream.key) is stream:  # else it has been given up, and its last connection just goes
            self._timers[stream.key].cancel()
            self._watch(stream)

    def shutdown(self) -> None:
        """End all streams, and open none any more."""
        self.closed = True
        for stream in [*self._open.values(), *self._kept.values()]:
            self.forget(stream, Reason.SHUTDOWN)

    def _forget(self, stream: Stream, reason: Reason, patience: float) -> None:
        self._kept.pop(stream.key, None)
        self._timers.pop(stream.key).cancel()
        self._endings[stream.key] = Ending(stream.memory, reason, self._clock().time(), patience)
        if len(self._endings) > _REMEMBERED:
            self._endings.popitem(last=False)

    def _watch(self, stream: Stream) -> None:
        self._timers[stream.key] = self._clock().call_at(self._due(stream), self._look, stream)

    def _due(self, stream: Stream) -> float:
        """When the stream is to be given up if nothing more happens."""
        since = self._clock().time() if stream.busy else stream.touched
        return since + stream.patience

    def _look(self, stream: Stream) -> None:
        """The timer's callback. It is not moved with every piece of work, so it may come early."""
        if self._due(stream) > self._clock().time():
            self._watch(stream)
        elif stream.key in self._kept:
            self._forget(stream, Reason.FINISHED, stream.patience)
        else:
            self.end(stream, stream.neglect)
