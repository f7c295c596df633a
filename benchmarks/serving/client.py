"""One connection that is kept open, and what it can find out about a server."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from benchmarks.serving.digits import Digits
from benchmarks.serving.payloads import Payload, Sample
from benchmarks.serving.ports import HOST

TOLERANCE = 1e-5  # of a probability
_ROUNDS = 4


class WrongAnswerError(Exception):
    """A server answers something else than onnxruntime does."""


class Answer(NamedTuple):
    """Status, headers with names in lower case, body."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """A connection to a server on this machine; requests one after the other.

    Args:
        port: of the server.
        timeout: seconds that anything may take.

    Raises:
        OSError: nobody listens.
    """

    def __init__(self, port: int, timeout: float = 30.0) -> None:
        self._port = port
        self._timeout = timeout
        self._socket = self._connect()

    def _connect(self) -> socket.socket:
        connection = socket.create_connection((HOST, self._port), self._timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def ask(self, request: bytes) -> Answer:
        """Send a whole request and read its answer. A server that then closes the connection gets another.

        Raises:
            OSError: the connection broke.
        """
        self._socket.sendall(request)
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._some()
        first, *lines = received[:end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = received[end + 4 :]
        if headers.get("transfer-encoding") == "chunked":
            while not body.endswith(b"0\r\n\r\n"):
                body += self._some()
            body = _unchunk(body)
        while len(body) < int(headers.get("content-length", 0)):
            body += self._some()
        if headers.get("connection") == "close":
            self._socket.close()
            self._socket = self._connect()
        return Answer(int(first.split()[1]), headers, body)

    def _some(self) -> bytes:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("the server closed the connection")
        return data


def _unchunk(body: bytes) -> bytes:
    whole = b""
    while (size := int(body[: body.index(b"\r\n")], 16)) > 0:
        start = body.index(b"\r\n") + 2
        whole += body[start : start + size]
        body = body[start + size + 2 :]
    return whole


def check(port: int, payload: Payload, samples: Sequence[Sample], digits: Digits) -> None:
    """Ask about different samples at the same time, some times over, and compare with onnxruntime.

    Raises:
        WrongAnswerError
        OSError: a connection broke.
    """

    def ask(sample: Sample) -> None:
        expected = digits((sample.seen if payload.picture else sample.pixels)[None])[0]
        with Connection(port) as connection:
            for _ in range(_ROUNDS):
                status, headers, body = connection.ask(payload.request(sample, port))
                if status != 200:
                    raise WrongAnswerError(f"{payload.name} is answered with {status}: {body[:200]!r}")
                answer = payload.read(headers, body)
                if answer.shape != expected.shape or not np.allclose(answer, expected, 0, TOLERANCE):
                    raise WrongAnswerError(f"{payload.name} is answered with {answer}, not {expected}")

    with ThreadPoolExecutor(len(samples)) as threads:
        list(threads.map(ask, samples))


def round_trips(connection: Connection, request: bytes, count: int) -> list[float]:
    """Seconds that each of so many requests took, one after the other."""
    took = []
    for _ in range(count):
        begin = time.perf_counter()
        status = connection.ask(request).status
        took.append(time.perf_counter() - begin)
        if status != 200:
            raise WrongAnswerError(f"a request is answered with {status}")
    return took
