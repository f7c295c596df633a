"""Load that does not wait: `python -m benchmarks.serving.openloop`, a process of its own.

Requests go out when they are due, at random times with a given mean rate, however many are unanswered. Times
count from when a request was due. The loop looks at its sockets a thousand times a second, which adds up to a
millisecond to each time and leaves the processors to the server.
"""

from __future__ import annotations

import argparse
import resource
import select
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.serving.outcome import BROKEN, SILENT, UNSENT, Outcome
from benchmarks.serving.ports import HOST

TICK = 0.001  # seconds between two looks
GRACE = 5.0  # seconds after the last request in which answers still count
KEEP = 3.0  # seconds that a connection is kept for another request; servers close theirs after 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the outcome as JSON; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.openloop", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="of the server on this machine")
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--connections", type=int, required=True, help="at most")
    parser.add_argument("requests", nargs="+", type=Path, help="files with whole requests, sent in turn")
    options = parser.parse_args(arguments)
    requests = [path.read_bytes() for path in options.requests]
    print(Generator(options.port, requests, options.connections).run(options.rate, options.seconds).dump())
    return 0


class _Connection:
    """One connection.

    Attributes:
        due: when its request was due, None while it has none.
        idle: since when it has none.
    """

    __slots__ = ("due", "idle", "received", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.due: float | None = None
        self.idle = 0.0
        self.received = b""


class Generator:
    """Sends the requests.

    Args:
        port: of the server.
        requests: sent in turn.
        limit: of connections; a request that would need another one is not sent.
    """

    def __init__(self, port: int, requests: Sequence[bytes], limit: int) -> None:
        self._port = port
        self._requests = requests
        self._limit = limit
        self._poll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        self._free: list[_Connection] = []  # the last used at the end, and used first

    def run(self, rate: float, seconds: float) -> Outcome:
        """Send `rate` requests a second on average for `seconds`, and wait for the answers."""
        gaps = np.random.default_rng(0).exponential(1.0 / rate, int(1.2 * rate * seconds) + 100)
        times = np.cumsum(gaps)
        dues = times[times < seconds].tolist()
        outcome = Outcome(seconds, len(dues))
        used, begin = _cpu_seconds(), time.perf_counter()
        number = 0
        while (now := time.perf_counter() - begin) < seconds + GRACE:
            while number < len(dues) and dues[number] <= now:
                self._send(dues[number], self._requests[number % len(self._requests)], now, outcome)
                number += 1
            for file, _ in self._poll.poll(0):
                self._receive(self._connections[file], time.perf_counter() - begin, outcome)
            if number == len(dues) and len(self._free) == len(self._connections):
                break
            time.sleep(TICK)
        outcome.cores = (_cpu_seconds() - used) / (time.perf_counter() - begin)
        outcome.answers[SILENT] += len(self._connections) - len(self._free)
        for connection in list(self._connections.values()):
            self._close(connection)
        return outcome

    def _send(self, due: float, request: bytes, now: float, outcome: Outcome) -> None:
        connection = self._connection(now)
        if connection is None:
            outcome.answers[UNSENT] += 1
            return
        connection.due = due
        try:
            whole = connection.socket.send(request) == len(request)
        except OSError:
            whole = False
        if not whole:
            outcome.answers[BROKEN] += 1
            self._close(connection)

    def _connection(self, now: float) -> _Connection | None:
        if self._free and self._free[-1].idle < now - KEEP:  # so are all the others
            for connection in list(self._free):
                self._close(connection)
        if self._free:
            return self._free.pop()
        if len(self._connections) == self._limit:
            return None
        try:
            connection = _Connection(self._port)
        except OSError:
            return None
        self._connections[connection.socket.fileno()] = connection
        self._poll.register(connection.socket, select.EPOLLIN)
        return connection

    def _receive(self, connection: _Connection, now: float, outcome: Outcome) -> None:
        try:
            data = connection.socket.recv(65536)
        except OSError:
            data = b""
        if not data or connection.due is None:  # the server closed it
            if connection.due is not None:
                outcome.answers[BROKEN] += 1
            self._close(connection)
            return
        connection.received += data
        head, found, body = connection.received.partition(b"\r\n\r\n")
        if not found:
            return
        first, *lines = head.lower().split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines)
        if len(body) < int(headers.get(b"content-length", 0)):
            return
        outcome.answered(first[9:12].decode(), headers.get(b"retry-after"), connection.due, now)
        connection.due, connection.idle, connection.received = None, now, b""
        if headers.get(b"connection") == b"close":
            self._close(connection)
        else:
            self._free.append(connection)

    def _close(self, connection: _Connection) -> None:
        del self._connections[connection.socket.fileno()]
        if connection in self._free:
            self._free.remove(connection)
        connection.socket.close()


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    sys.exit(main())
