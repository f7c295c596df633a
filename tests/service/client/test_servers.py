"""Servers that cannot be reached, that go, or that are something else."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as serve_websocket

from service.http.keys import Access, add
from tests.service.client.command import Run, rest, started, url


def test_a_server_that_does_not_come_back(serve: Any, small_store: Path, recording: Path) -> None:
    with (
        serve("--store", small_store, "--stream-resume-seconds", 0.3) as server,
        started(recording, "--url", url(server)) as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        server.process.kill()
        _, errors = rest(process)
    assert process.returncode == 1
    last = errors.splitlines()[-1]
    reason = f"lost the connection to {url(server)} and did not come back in 0.3 seconds: "
    assert last.startswith(f"python -m service stream: {reason}")


def test_a_server_that_was_started_anew(serve: Any, small_store: Path, recording: Path) -> None:
    with serve("--store", small_store) as first, started(recording, "--url", url(first)) as process:
        assert process.stdout is not None
        process.stdout.readline()
        first.stop()
        with serve("--store", small_store, "--port", first.address[1]):
            _, errors = rest(process)
    assert process.returncode == 1
    lost, failed = errors.splitlines()
    assert lost == "lost the connection (the server is shutting down), trying to come back"
    assert failed.startswith(
        "python -m service stream: the server ended the stream: no stream has this token; it ended long ago, "
        "or was another server's or this one's before it was started anew"
    )


def test_a_full_server(run: Run, serve: Any, small_store: Path, recording: Path) -> None:
    with (
        serve("--store", small_store, "--max-streams", 1) as server,
        started(recording, "--url", url(server)) as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        status, _, errors = run(recording, "--url", url(server))
    assert status == 1
    assert errors == [
        "python -m service stream: the server ended the stream: 1 streams are open, as many as this server "
        "takes; expected: another attempt in 5 seconds"
    ]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ws://127.0.0.1:9/v1/frames/stream", "Connect call failed"),
        ("ws://nowhere.invalid/", "Name or service not known|Temporary failure in name resolution"),
    ],
)
def test_servers_that_cannot_be_reached(run: Run, recording: Path, address: str, message: str) -> None:
    status, _, errors = run(recording, "--url", address)
    assert status == 1
    (line,) = errors
    assert re.search(f"^python -m service stream: cannot stream to {address}: .*({message})", line)


def test_a_server_that_wants_a_key(
    run: Run, serve: Any, small_store: Path, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = add(tmp_path / "keys", "somebody", frozenset({Access.INFER}), None, None)
    with serve("--store", small_store, "--api-keys", tmp_path / "keys") as server:
        status, _, errors = run(recording, "--url", url(server), "--speed", 0)
        assert (status, "401" in errors[-1]) == (1, True)
        monkeypatch.setenv("MOMENTUM_API_KEY", key)
        status, printed, _ = run(recording, "--url", url(server), "--speed", 0)
        assert (status, printed[-1].startswith("result: ")) == (0, True)


@contextmanager
def answering(*answers: str) -> Iterator[str]:
    """The address of a server that answers each connection's first message with one of these, and closes."""
    left = list(answers)

    def answer(connection: ServerConnection) -> None:
        connection.recv()
        connection.send(left.pop(0) if left else "")
        connection.close(1001)

    with serve_websocket(answer, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield "ws://{}:{}/".format(*server.socket.getsockname())
        finally:
            server.shutdown()
            thread.join()


SHUTTING_DOWN = '{"type": "error", "code": "shutting_down", "detail": "the server is shutting down"}'


def test_a_server_that_stops_before_the_stream_begins(run: Run, recording: Path) -> None:
    with answering(SHUTTING_DOWN) as address:
        status, out, error = run(recording, "--url", address)
    assert (status, out) == (1, [])
    assert error == [f"python -m service stream: cannot stream to {address}: the server is shutting down"]


def test_a_server_that_stops_when_the_client_comes_back(run: Run, recording: Path) -> None:
    started = {"type": "started", "hop_seconds": 0.01, "resume_seconds": 0.5, "resume": "a.b.0"}
    started["limits"] = {"message_bytes": 2**16}
    with answering(json.dumps(started), *[SHUTTING_DOWN] * 9) as address:
        status, out, error = run(recording, "--url", address)
    assert (status, out) == (1, [])
    assert error[0].startswith("lost the connection (")
    assert error[1:] == [
        f"python -m service stream: lost the connection to {address} and did not come back in 0.5 seconds: "
        "the server is shutting down"
    ]


@pytest.mark.parametrize("answer", ["hello", "[1]", '{"type": "start", "sample_rate": 8000}', "{}"])
def test_a_websocket_of_something_else(run: Run, recording: Path, answer: str) -> None:
    with answering(answer) as address:
        status, out, error = run(recording, "--url", address)
    assert (status, out) == (1, [])
    assert error == [f"python -m service stream: {address} is no stream of this service: it says {answer!r}"]


def test_a_server_of_something_else(run: Run, small_server: Any, recording: Path) -> None:
    status, _, errors = run(recording, "--url", url(small_server).replace("stream", "nothing"))
    assert status == 1
    assert errors[0].endswith("server rejected WebSocket connection: HTTP 403")
