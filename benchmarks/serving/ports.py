"""Where servers listen."""

from __future__ import annotations

import os
import socket

HOST = "127.0.0.1"
PORT = "BENCH_PORT"  # the environment variable that tells a peer


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def given_port() -> int:
    """The port that this process was told to serve on."""
    return int(os.environ[PORT])
