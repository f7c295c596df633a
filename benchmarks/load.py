"""Many live streams from one process: plain sockets and one loop, so that the client costs little."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

CHUNK_MS, FRAMES_A_CHUNK = 100, 10
PATH = "/v1/frames/stream"
TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9
FRAMES = b'{"type":"frames"'


@dataclass(frozen=True)
class Load:
    """What was sent and received.

    Attributes:
        streams: how many.
        sent: messages of audio that were due in the measured time.
        times: seconds until the answers to these, as many as there were.
        lags: seconds by which these were sent later than due.
        used: processor seconds a second of what was asked for, while these were sent.
    """

    streams: int
    sent: int
    times: np.ndarray
    lags: np.ndarray
    used: list[float]

    @property
    def answered(self) -> int:
        """How many of these messages were answered."""
        return len(self.times)

    @property
    def late_ms(self) -> float:
        """p99 of how much later than due messages were sent."""
        return 1000.0 * float(np.percentile(self.lags, 99))

    def milliseconds(self, share: float) -> float:
        """The time within which so many percent were answered; infinite if none was."""
        return 1000.0 * float(np.percentile(self.times, share)) if len(self.times) else float("inf")


@dataclass
class _Stream:
    """One connection.

    Attributes:
        waiting: when each message that has no answer yet was due.
        unsent: what the socket did not take.
    """

    socket: socket.socket
    waiting: deque[float] = field(default_factory=deque)
    received: bytearray = field(default_factory=bytearray)
    unsent: bytes = b""

    def send(self, data: bytes) -> None:
        data = self.unsent + data
        try:
            self.unsent = data[self.socket.send(data) :]
        except BlockingIOError:
            self.unsent = data


def play(
    address: tuple[str, int],
    count: int,
    sample_rate: int,
    warm_up: float,
    seconds: float,
    usage: Callable[[], list[float]],
) -> Load:
    """Play noise into `count` streams for `warm_up` seconds and then for `seconds` that count.

    Args:
        address: of the server.
        count: of streams.
        sample_rate: of the audio, Hz.
        warm_up: seconds.
        seconds: of audio that count.
        usage: processor seconds that were used by now, by whatever is to be watched.

    Raises:
        RuntimeError: the server refused or ended a stream.
    """
    streams = [_connect(address, sample_rate) for _ in range(count)]
    samples = sample_rate * CHUNK_MS // 1000
    noise = np.random.default_rng(0).normal(0.0, 3000.0, (16, samples)).clip(-32768, 32767)
    chunks = [_frame(BINARY, chunk.astype("<i2").tobytes()) for chunk in noise]
    poll = select.epoll()
    by_file = {stream.socket.fileno(): stream for stream in streams}
    for file in by_file:
        poll.register(file, select.EPOLLIN)
    begin = time.perf_counter() + 0.1
    first, last = begin + warm_up, begin + warm_up + seconds
    step = CHUNK_MS / 1000.0 / count
    times: list[float] = []
    lags: list[float] = []
    number = sent = 0
    before: list[float] = []
    end = last + 2.0  # for the last answers
    while (now := time.perf_counter()) < end:
        due = begin + number * step
        while due <= now and due < last:
            stream = streams[number % count]
            stream.send(chunks[number % len(chunks)])
            stream.waiting.append(due)
            if due >= first:
                sent += 1
                lags.append(time.perf_counter() - due)
            number += 1
            due = begin + number * step
        if not before and now >= first:
            before, since = usage(), now
        if due >= last and not any(stream.waiting for stream in streams):
            break
        for file, _ in poll.poll(max(0.0, min(due, end) - time.perf_counter())):
            stream = by_file[file]
            now = time.perf_counter()
            times += [now - due for due in _receive(stream) if due >= first]
    elapsed = time.perf_counter() - since
    used = [(now - then) / elapsed for now, then in zip(usage(), before, strict=True)]
    for stream in streams:
        stream.socket.close()
    return Load(count, sent, np.array(times), np.array(lags), used)


def _connect(address: tuple[str, int], sample_rate: int) -> _Stream:
    connection = socket.create_connection(address, timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    key = "bW9tZW50dW0gc2VydmUgIQ=="
    lines = [f"GET {PATH} HTTP/1.1", f"Host: {address[0]}:{address[1]}", "Upgrade: websocket"]
    lines += ["Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "", ""]
    connection.sendall("\r\n".join(lines).encode())
    stream = _Stream(connection)
    while b"\r\n\r\n" not in stream.received:
        stream.received += _some(connection)
    head, _, rest = bytes(stream.received).partition(b"\r\n\r\n")
    if b" 101 " not in head.splitlines()[0]:
        raise RuntimeError(f"the server answered {head.decode(errors='replace')}")
    stream.received = bytearray(rest)
    start = f'{{"type": "start", "sample_rate": {sample_rate}, "encoding": "pcm16"}}'
    connection.sendall(_frame(TEXT, start.encode()))
    while not (messages := _messages(stream)):
        stream.received += _some(connection)
    if not messages[0].startswith(b'{"type":"started"'):
        raise RuntimeError(f"the server answered {messages[0].decode()}")
    connection.setblocking(False)
    return stream


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise RuntimeError("the server closed the connection")
    return data


def _receive(stream: _Stream) -> list[float]:
    """When the messages that are answered by what has arrived were due."""
    if stream.unsent:
        stream.send(b"")
    try:
        stream.received += _some(stream.socket)
    except BlockingIOError:
        return []
    answered = []
    for message in _messages(stream):
        if message.startswith(FRAMES):
            # a server that has got behind answers several messages at once
            labels = message[message.index(b'"labels":[') :].partition(b"]")[0].count(b",") + 1
            count = min(labels // FRAMES_A_CHUNK, len(stream.waiting))
            answered += [stream.waiting.popleft() for _ in range(count)]
        elif message.startswith(b'{"type":"error"'):
            raise RuntimeError(f"the server ended a stream: {message.decode()}")
    return answered


def _messages(stream: _Stream) -> list[bytes]:
    """The whole text messages that have arrived; pings are answered."""
    data, messages, at = stream.received, [], 0
    while len(data) - at >= 2:
        kind, length, head = data[at] & 15, data[at + 1] & 127, 2
        if length >= 126:
            size = 2 if length == 126 else 8
            if len(data) - at < 2 + size:
                break
            length, head = int.from_bytes(data[at + 2 : at + 2 + size], "big"), 2 + size
        if len(data) - at < head + length:
            break
        payload = bytes(data[at + head : at + head + length])
        at += head + length
        if kind == TEXT:
            messages.append(payload)
        elif kind == PING:
            stream.send(_frame(10, payload))
        elif kind == CLOSE:
            raise RuntimeError(f"the server closed a stream: {payload[2:].decode(errors='replace')}")
    del data[:at]
    return messages


def _frame(kind: int, payload: bytes) -> bytes:
    """A client's WebSocket frame, RFC 6455 section 5.2."""
    length = len(payload)
    head = (
        struct.pack("!BB", 128 | kind, 128 | length)
        if length < 126
        else struct.pack("!BBH", 128 | kind, 254, length)
    )
    mask = os.urandom(4)
    masked = np.frombuffer(payload, np.uint8) ^ np.resize(np.frombuffer(mask, np.uint8), length)
    return head + mask + masked.tobytes()
