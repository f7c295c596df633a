"""The command, and a proxy between it and the server."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

SECONDS = 2  # of the recording
COMMAND = [sys.executable, "-W", "error", "-m", "service", "stream"]

Run = Callable[..., tuple[object, list[str], list[str]]]


def url(server: Any) -> str:
    return f"ws://{server.address[0]}:{server.address[1]}/v1/frames/stream"


@contextmanager
def started(*arguments: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    command = [*COMMAND, *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def rest(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it still prints. (`communicate` would lose what has been read ahead.)"""
    assert process.stdout is not None
    assert process.stderr is not None
    printed, errors = process.stdout.read(), process.stderr.read()
    process.wait(timeout=60)
    return printed, errors


class Proxy:
    """Passes connections on to a server, until told to cut them."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.target = target
        self.sockets: list[socket.socket] = []
        self.made = 0
        self.heard = False  # whether any frames were told
        self.stream = ""  # the last one that began
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.listener.getsockname()
        return host, port

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(self.target)
                self.sockets += [client, server]
                self.made += 1
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
                self.heard |= b'"frames"' in data
                if begun := re.search(rb'"type":"started","stream":"(\w+)"', data):
                    self.stream = begun[1].decode()
            sink.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        for end in self.sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.sockets.clear()
