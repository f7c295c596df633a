"""WebSockets as a connection uses them: it is called with what arrives, and what it sends is on its way at
once. Nothing here waits, and a message costs no task.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from http import HTTPStatus
from typing import Protocol

from starlette.types import Message, Receive, Scope, Send
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from service.http.problems import StatusProblem
from service.http.refusals import Refusal
from service.http.writer import last_answer

_EXTENSION = "momentum.socket"  # what a scope of ours has besides ASGI
_UNSENT_BYTES = 2**16
_LINGER_SECONDS = 5
_PONG_BYTES = 2**20
_LAST_SECONDS = 2  # for a message that is on its way when a connection ends


class Receiver(Protocol):
    """Who a socket's messages are for."""

    def received(self, message: bytes | str) -> None:
        """A binary message, or a text."""

    def writable(self) -> None:
        """The socket is not blocked any more."""


class Socket(Protocol):
    """A WebSocket after its handshake."""

    blocked: bool
    """Whether the client has to take what it was sent before it is sent more."""

    async def listen(self, receiver: Receiver) -> None:
        """Hand on what arrives, until the client has left or this is cancelled."""

    def write(self, text: bytes) -> None:
        """Send a text message. To a client that has left, nothing is sent."""

    def pause(self) -> None:
        """Read no more from the client, though what has been read is still handed on."""

    def resume(self) -> None:
        """Read again."""


def socket_of(scope: Scope, receive: Receive, send: Send) -> Socket:
    """The WebSocket of an ASGI connection."""
    ours: Socket | None = scope.get("extensions", {}).get(_EXTENSION)
    return ASGISocket(receive, send) if ours is None else ours


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """The WebSocket protocol of our server: uvicorn's, without the queue and the tasks between the network
    and the application, and with bounds for clients that do not read.

    It lets the operating system hold little that is not on its way, and cuts a connection off when it has
    ended and the client takes none of what is left, or when it sends pings and takes no pongs. Uvicorn would
    keep megabytes for as long as the client likes.
    """

    blocked = False
    _receiver: Receiver | None = None

    async def listen(self, receiver: Receiver) -> None:
        """See `Socket`."""
        self._receiver = receiver
        try:
            self.resume()
            # What the client has sent before it was answered is in the queue, and its leaving will be.
            while (message := await self.receive())["type"] != "websocket.disconnect":
                receiver.received(_content(message))  # type: ignore[arg-type]  # uvicorn's type for all
        finally:
            self._receiver = None

    def write(self, text: bytes) -> None:
        """See `Socket`."""
        if not (self.close_sent or self.transport.is_closing()):
            self.conn.send_text(text)
            self.transport.write(b"".join(self.conn.data_to_send()))

    def pause(self) -> None:
        """See `Socket`."""
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """See `Socket`."""
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    # What uvicorn calls:

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        error = self.conn.handshake_exc
        # Nothing else would ever end a connection whose handshake could not be read.
        if error is not None and not (self.handshake_initiated or self.transport.is_closing()):
            detail = f"this is no WebSocket's handshake: {error.__cause__ or error}"
            problem = StatusProblem(HTTPStatus.BAD_REQUEST, detail)
            self.transport.write(last_answer(Refusal.INVALID_HTTP, problem, ""))
            self.transport.close()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:  # it has not been refused, and the application will run
            self.scope["extensions"][_EXTENSION] = self  # type: ignore[assignment]

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if (
            self.close_sent
        ):  # uvicorn takes a handshake that was refused for one that has not ended, and logs it
            self.handshake_complete = True

    def send_receive_event_to_app(self) -> None:
        receiver = self._receiver
        if receiver is None or self.close_sent:
            super().send_receive_event_to_app()
            return
        message: bytes | str = b"".join(self.frames)
        if self.curr_msg_data_type == "text":
            try:
                message = message.decode()  # type: ignore[union-attr]
            except UnicodeDecodeError:
                super().send_receive_event_to_app()  # which closes the connection
                return
        self.frames = []
        receiver.received(message)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.blocked = True

    def resume_writing(self) -> None:
        super().resume_writing()
        self.blocked = False
        if self._receiver is not None:
            self._receiver.writable()

    def handle_ping(self) -> None:
        super().handle_ping()
        if self.transport.get_write_buffer_size() > _PONG_BYTES:  # it asks on and on, and reads no answers
            self.transport.abort()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        self._linger(sys.maxsize)

    def _linger(self, before: int) -> None:
        size = self.transport.get_write_buffer_size()
        if size >= before:
            self.transport.abort()
        elif size:
            self.loop.call_later(_LINGER_SECONDS, self._linger, size)


class ASGISocket:
    """A WebSocket of any ASGI server.

    Args:
        receive, send: the connection, after its handshake.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._reading = asyncio.Event()
        self._reading.set()
        self.blocked = False
        self._sending: asyncio.Task[None] | None = None
        self._left = False

    async def listen(self, receiver: Receiver) -> None:
        """See `Socket`."""
        self._receiver = receiver
        try:
            while not self._left and (message := await self._receive())["type"] != "websocket.disconnect":
                receiver.received(_content(message))
                await self._reading.wait()
        finally:
            sending = self._sending
            if sending is not None:  # it counts as sent
                await asyncio.wait([sending], timeout=_LAST_SECONDS)
                sending.cancel()

    def write(self, text: bytes) -> None:
        """See `Socket`."""
        self.blocked = True
        self._sending = asyncio.create_task(self._write(text.decode()))

    def pause(self) -> None:
        """See `Socket`."""
        if not self._left:
            self._reading.clear()

    def resume(self) -> None:
        """See `Socket`."""
        self._reading.set()

    async def _write(self, text: str) -> None:
        try:
            await self._send({"type": "websocket.send", "text": text})
        except (OSError, RuntimeError):  # from servers whose connection is closed or closing
            self._left = True
            self._reading.set()
        else:
            self.blocked = False
            self._receiver.writable()


def _content(message: Message) -> bytes | str:
    data: bytes | str | None = message.get("bytes")
    return message["text"] if data is None else data
