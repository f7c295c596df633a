"""A WebSocket client that can do what a good one can't: cut its connection, write garbage, not read."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri


class CutError(Exception):
    """The server cut the connection without closing the WebSocket."""


@dataclass
class Closed:
    """How a connection ended."""

    code: int
    reason: str


class StreamClient:
    """One connection to WS /v1/frames/stream, with its handshake done."""

    def __init__(self, address: tuple[str, int], receive_buffer: int | None = None, source: str = "") -> None:
        self.socket = socket.socket()
        self.socket.bind((source, 0))
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(60)
        self.socket.connect(address)
        self.protocol = ClientProtocol(parse_uri("ws://server/v1/frames/stream"), max_size=None)
        self.protocol.send_request(self.protocol.connect())
        self._flush()
        self._events: list[Any] = []
        response = self._event()
        assert isinstance(response, Response)
        assert response.status_code == 101, response

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, message: dict[str, Any] | str | bytes) -> None:
        """Send a message: a dictionary as JSON, a string as text, bytes as audio."""
        if isinstance(message, bytes):
            self.protocol.send_binary(message)
        else:
            text = message if isinstance(message, str) else json.dumps(message)
            self.protocol.send_text(text.encode())
        self._flush()

    def start(self, **fields: Any) -> dict[str, Any]:
        """Begin a stream and return the server's first message."""
        self.send({"type": "start", "sample_rate": 8000, "encoding": "pcm16"} | fields)
        return self.message()

    def receive(self) -> dict[str, Any] | Closed:
        """The next message, or how the connection ended.

        Raises:
            CutError
        """
        while True:
            frame = self._event()
            assert isinstance(frame, Frame)
            if frame.opcode is Opcode.TEXT:
                message = json.loads(bytes(frame.data))
                assert isinstance(message, dict)
                return message
            if frame.opcode is Opcode.CLOSE:
                close = Close.parse(bytes(frame.data))
                return Closed(close.code, close.reason)

    def message(self) -> dict[str, Any]:
        """The next message; the connection must not end."""
        message = self.receive()
        assert isinstance(message, dict), message
        return message

    def rest(self) -> tuple[list[dict[str, Any]], Closed]:
        """All further messages, and how the connection ended."""
        messages = []
        while isinstance(message := self.receive(), dict):
            messages.append(message)
        return messages, message

    def error(self) -> tuple[dict[str, Any], int]:
        """The last message, which is an error, and the code with which the connection was closed."""
        messages, closed = self.rest()
        assert messages, closed
        assert messages[-1]["type"] == "error"
        assert messages[-1]["code"] == closed.reason
        return messages[-1], closed.code

    def cut(self) -> None:
        """Lose the connection as when a cable is pulled: without a closing handshake, and with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def arrived(self) -> Iterator[dict[str, Any]]:
        """The messages that have arrived by now."""
        self.socket.setblocking(False)
        try:
            while True:
                yield self.message()
        except BlockingIOError:
            pass
        finally:
            self.socket.settimeout(60)

    def _flush(self) -> None:
        for data in self.protocol.data_to_send():
            if data:
                self.socket.sendall(data)

    def _event(self) -> Any:
        while not self._events:
            try:
                data = self.socket.recv(2**16)
            except ConnectionResetError:
                data = b""
            if not data:
                raise CutError
            self.protocol.receive_data(data)
            self._events += self.protocol.events_received()
            with suppress(OSError):  # the server need not wait for pongs and the answer to a close
                self._flush()
        return self._events.pop(0)
