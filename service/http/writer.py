"""Writing answers with few calls of the system."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class AnswerWriter:
    """A transport that sends the head of an answer together with the beginning of its body: uvloop gives each
    write to the system at once, and the client would be woken twice.

    Args:
        transport: the connection's.
        loop: its event loop.
        close: closes the connection after an answer.
    """

    __slots__ = ("_close", "_head", "_loop", "_transport")

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, close: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._close = close
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head + data)
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 1"):
            self._head = data
            self._loop.call_soon(self.flush)  # for a body that is not there yet
        else:
            self._transport.write(data)

    def close(self) -> None:
        self.flush()
        self._close()

    def flush(self) -> None:
        """Send a head that no body follows."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
