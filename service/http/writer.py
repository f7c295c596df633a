"""Answers as bytes, and writing them with few calls of the system."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from service.http.headers import secured
from service.http.middleware import new_request_id
from service.http.problems import StatusProblem, respond
from service.http.refusals import Refusal

log = structlog.get_logger(__name__)


def as_bytes(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    """An answer as HTTP/1.1 has it."""
    return STATUS_LINE[status] + b"\r\n".join([*[name + b": " + value for name, value in headers], b"", body])


def last_answer(
    reason: Refusal, problem: StatusProblem, path: str, headers: dict[str, str] | None = None
) -> bytes:
    """The answer to what has not become a request; the connection ends with it. It is logged.

    Args:
        reason: for the log.
        problem: what is wrong.
        path: asked for, as far as it is known.
        headers: besides those that all answers have.
    """
    with structlog.contextvars.bound_contextvars(request_id=new_request_id()):
        response = respond(problem, path, {"Connection": "close"} | (headers or {}))
        log.info("connection refused", reason=reason, status=response.status_code)
    return as_bytes(response.status_code, secured(response.raw_headers, path), bytes(response.body))


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
