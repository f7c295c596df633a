"""Decoding what clients upload, within bounds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Self, TypeVar

from fastapi import Request

from service.engine import DeadlineExceededError, Limits, OverloadedError
from service.http.deadline import deadline
from service.http.refusals import Refusal, Refusals
from service.http.routes import while_connected

T = TypeVar("T")

_MEMORY = 0.9  # of the usual time, for what is next


class Decoders:
    """Threads that decode images, recordings and long JSON. They are few, since a decoded image can take
    hundreds of megabytes, a recording dozens; what waits for them has not been decoded.

    Args:
        threads: how many.
        limits: what may wait for them, a row a request, and how many bytes of what they made may wait to be
            used; more is refused.
        refusals: where that is counted.
    """

    def __init__(self, threads: int, limits: Limits, refusals: Refusals) -> None:
        self._threads = threads
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="decoder")
        self._turns = asyncio.Semaphore(threads)
        self._limits = limits
        self._refusals = refusals
        self._waiting = 0
        self._waiting_bytes = 0
        self._held_bytes = 0
        self._seconds = 0.0  # that one takes, usually

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()

    async def run(self, request: Request, size: int, decode: Callable[..., T], *arguments: Any) -> T:
        """What `decode` makes of these arguments. It is not begun when the client has gone.

        Args:
            request: whose body has been read.
            size: of what is decoded, bytes.
            decode: is called in a thread.
            arguments: what it is called with.

        Raises:
            OverloadedError: too much waits.
            DeadlineExceededError: its turn did not come by the request's deadline.
            ClientDisconnect: the client is gone.
        """
        return await while_connected(request, self._run(deadline(request.scope), size, decode, *arguments))

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Keep what was decoded until it has been used: a few bytes of silence can become megabytes.

        Args:
            size: of it, bytes.

        Raises:
            OverloadedError: too much is kept.
        """
        if self._held_bytes and self._held_bytes + size > self._limits.nbytes:
            raise self._overloaded(
                f"recordings of {self._held_bytes} bytes, decoded, wait to be heard, and no more than "
                f"{self._limits.nbytes} bytes may"
            )
        self._held_bytes += size
        try:
            yield
        finally:
            self._held_bytes -= size

    async def _run(self, when: float, size: int, decode: Callable[..., T], *arguments: Any) -> T:
        await self._turn(when, size)
        loop = asyncio.get_running_loop()
        started = time.monotonic()

        def ended(_: Future[T]) -> None:
            loop.call_soon_threadsafe(self._ended, started)

        running = self._executor.submit(decode, *arguments)
        running.add_done_callback(ended)  # even if nobody waits for it any more
        return await asyncio.wrap_future(running)

    async def _turn(self, when: float, size: int) -> None:
        if self._waiting and (
            self._waiting >= self._limits.rows or self._waiting_bytes + size > self._limits.nbytes
        ):
            raise self._overloaded(
                f"{self._waiting} images or recordings of {self._waiting_bytes} bytes wait to be decoded, "
                f"and no more than {self._limits.rows} of {self._limits.nbytes} bytes may"
            )
        self._waiting += 1
        self._waiting_bytes += size
        try:
            if when <= asyncio.get_running_loop().time():
                raise TimeoutError
            async with asyncio.timeout_at(when):
                await self._turns.acquire()
        except TimeoutError:
            self._refusals[Refusal.DEADLINE] += 1
            raise DeadlineExceededError(
                "the deadline passed while the request waited to be decoded"
            ) from None
        finally:
            self._waiting -= 1
            self._waiting_bytes -= size

    def _overloaded(self, detail: str) -> OverloadedError:
        self._refusals[Refusal.DECODERS] += 1
        return OverloadedError(detail, max(1, self._waiting * self._seconds / self._threads))

    def _ended(self, started: float) -> None:
        self._turns.release()
        took = time.monotonic() - started
        self._seconds = _MEMORY * self._seconds + (1 - _MEMORY) * took if self._seconds else took
