"""The network between the page and its server, which can be cut while both live on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class Proxy:
    """Passes on what is sent to `url`.

    Args:
        target: host and port of the server.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._refuses = False
        self._silent = threading.Event()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)

    def cut(self) -> None:
        """Close every connection, and refuse new ones."""
        self._refuses = True
        self._close()

    def silence(self) -> None:
        """Pass nothing on, and tell nobody: what is lost stays lost."""
        self._silent.set()

    def mend(self) -> None:
        """Serve new connections again."""
        self._close()
        self._refuses = False
        self._silent = threading.Event()

    def stop(self) -> None:
        """End it all."""
        self._listener.shutdown(socket.SHUT_RDWR)  # which ends `accept`, as closing does not
        self._listener.close()
        self._close()

    def _close(self) -> None:
        while self._sockets:
            with suppress(OSError):
                self._sockets.pop().shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refuses:
                client.close()
                continue
            server = socket.create_connection(self._target)
            self._sockets += [client, server]
            for ends in ((client, server), (server, client)):
                self._start(self._pass, *ends, self._silent)

    def _pass(self, source: socket.socket, target: socket.socket, silent: threading.Event) -> None:
        with source, suppress(OSError):
            while data := source.recv(2**16):
                if not silent.is_set():
                    target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=work, args=arguments, daemon=True).start()


@contextmanager
def between(target: tuple[str, int]) -> Iterator[Proxy]:
    """A proxy before a server."""
    proxy = Proxy(target)
    try:
        yield proxy
    finally:
        proxy.stop()
