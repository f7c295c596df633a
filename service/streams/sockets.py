"""The WebSocket protocol of the server: uvicorn's, with bounds for clients that do not read."""

from __future__ import annotations

import asyncio
import socket
import sys

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

_UNSENT_BYTES = 2**16
_LINGER_SECONDS = 5
_PONG_BYTES = 2**20


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Lets the operating system hold little that is not on its way, and cuts a connection off when it has
    ended and the client takes none of what is left, or when it sends pings and takes no pongs. Uvicorn would
    keep megabytes for as long as the client likes.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)

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
