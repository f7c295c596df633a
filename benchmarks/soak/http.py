"""HTTP as the clients of the soak speak it: bytes, on sockets that can be cut."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import orjson

from benchmarks.soak.tally import ViolationError

_LINGER_NOT = struct.pack("ii", 1, 0)  # closing resets


class ClosedError(Exception):
    """The server closed the connection without, or in the middle of, an answer."""


@dataclass(frozen=True)
class Answer:
    """Headers have names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body.

        Raises:
            ViolationError: it is not JSON.
        """
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            raise ViolationError(f"{self.status} with the body {self.body[:100]!r}; expected JSON") from None


@dataclass
class Connection:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    @asynccontextmanager
    async def to(cls, address: tuple[str, int], receive_buffer: int | None = None) -> AsyncIterator[Self]:
        """Connect, with so few bytes of the system's buffer if that is said."""
        connecting = socket.socket()
        connecting.setblocking(False)
        if receive_buffer is not None:
            connecting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await asyncio.get_running_loop().sock_connect(connecting, address)
            reader, writer = await asyncio.open_connection(sock=connecting, limit=2**16)
        except BaseException:
            connecting.close()
            raise
        try:
            yield cls(reader, writer)
        finally:
            writer.transport.abort()

    async def send(self, data: bytes) -> None:
        """Send; a connection that the server has closed is noticed when reading."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError:
            pass

    async def ask(self, request: bytes) -> Answer:
        """Send a request and read its answer.

        Raises:
            ClosedError
        """
        await self.send(request)
        return await self.answer()

    async def answer(self) -> Answer:
        """Read an answer.

        Raises:
            ClosedError
        """
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
            }
            if "content-length" not in headers:
                raise ViolationError(f"{first} has no Content-Length")
            body = await self.reader.readexactly(int(headers["content-length"]))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise ClosedError from error
        return Answer(int(first.split()[1]), headers, body)

    def reset(self) -> None:
        """Lose the connection as when a cable is pulled."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self.writer.transport.abort()


def request(method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """A request as it goes over the wire."""
    fields = {"Host": "127.0.0.1", **(headers or {}), "Content-Length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def refused(answer: Answer, path: str, *allowed: int) -> str:
    """The outcome of a request that was refused as it should be.

    Raises:
        ViolationError: the status is another one, or the body does not say why in the form that the path has.
    """
    status = answer.status
    if status not in allowed:
        expected = " or ".join(map(str, allowed))
        raise ViolationError(f"{path} answered {status} {answer.body[:300]!r}; expected {expected}")
    document = answer.json()
    if path == "/v2" or path.startswith("/v2/"):
        told = set(document) == {"error"} and bool(document["error"])
    else:
        told = document.get("status") == status and bool(document.get("title") and document.get("detail"))
    if not told:
        raise ViolationError(
            f"{path} answered {status} with {document}, which is not the form it has to have"
        )
    if status == 429 and int(answer.headers.get("retry-after", "0")) < 1:
        raise ViolationError(f"{path} answered 429 without Retry-After")
    return str(status)
