"""`python -m service` as a process: how it starts, refuses to start, and stops."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.faults.load import wait_until

Serve = Callable[..., Any]


def start(*flags: object) -> tuple[int, str]:
    """Run the server, which is expected to give up; its exit status and what it printed."""
    command = [sys.executable, "-W", "error", "-m", "service", *map(str, flags)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MOMENTUM_")}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert ended.stdout == ""
    return ended.returncode, ended.stderr


def test_it_says_what_it_serves_and_where(small_server: Any) -> None:
    loaded, _, serving = small_server.log()[:3]
    assert (loaded["event"], loaded["model"], loaded["version"]) == ("loaded", "digits", "1")
    assert serving["event"] == "serving"
    assert httpx.get(serving["docs"]).status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_running_request_is_finished_before_stopping(
    serve: Serve, small_store: Path, number: signal.Signals
) -> None:
    with serve("--store", small_store) as server, socket.create_connection(server.address) as connection:
        body = json.dumps({"pixels": [0, 1] * 392}).encode()
        head = f"POST /v1/digits HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        connection.sendall(head + body[:100])
        server.client.get("/v2/health/live")  # by now the request's head has been read too
        server.process.send_signal(number)
        wait_until(lambda: not connection_is_accepted(server.address), "closed to new connections")
        connection.sendall(body[100:])
        answer = b""
        while received := connection.recv(65536):
            answer += received
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b'"digit":' in answer
        assert server.process.wait(timeout=60) == 0
        events = [line["event"] for line in server.log()]
        assert events == ["loaded", "loaded", "serving", "draining", "stopping", "request"]


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_on_until_load_balancers_have_noticed(
    serve: Serve, small_store: Path, second: signal.Signals
) -> None:
    """It is not ready any more, but answers (kserve#3360: 502s on rollout), until told to hurry."""
    with serve("--store", small_store, "--drain-seconds", 600) as server:
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.client.get("/v2/health/ready").status_code != 200, "draining")
        ready = server.client.get("/v2/health/ready")
        assert (ready.status_code, ready.json()) == (
            503,
            {"ready": False, "live": False, "problems": ["draining"]},
        )
        assert server.client.get("/v2/health/live").status_code == 200
        answer = server.client.post("/v1/digits", json={"pixels": [0, 1] * 392})
        assert answer.status_code == 200
        assert httpx.get(f"{server.url}/v2/health/live").status_code == 200  # a new connection
        assert server.stop(second) == 0


def connection_is_accepted(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_stops_with_status_0(serve: Serve, small_store: Path, number: signal.Signals) -> None:
    with serve("--store", small_store) as server:
        assert server.client.get("/v2/health/ready").status_code == 200
        assert server.stop(number) == 0
        assert all(line["level"] == "info" for line in server.log())


@pytest.mark.parametrize("path", ["/v1/digits", "/v1/frames", "/v2/models/digits/infer"])
def test_a_request_that_takes_too_long_is_given_up(serve: Serve, small_store: Path, path: str) -> None:
    with (
        serve("--store", small_store, "--shutdown-seconds", 0) as server,
        socket.create_connection(server.address) as connection,
    ):
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n".encode())
        server.client.get("/v2/health/live")
        assert server.stop() == 0
        answer = b""
        while received := connection.recv(65536):
            answer += received
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"connection: close" in head
        detail = "the server is stopping, and the request was not done by then"
        if path.startswith("/v2"):
            expected = "the same request at another server, or when this one is back"
            assert json.loads(body) == {"error": f"{detail}; expected {expected}"}
        else:
            assert json.loads(body)["title"] == "Stopping"
            assert json.loads(body)["detail"] == detail
        assert not [line for line in server.log() if "exception" in line]
        assert [line["status"] for line in server.log() if line["event"] == "request"] == [503]


def test_a_taken_port_is_one_clear_line(small_server: Any, small_store: Path) -> None:
    host, port = small_server.address
    status, printed = start("--store", small_store, "--port", port)
    assert status == 1
    (line,) = printed.splitlines()
    reason = f"cannot listen on {host}:{port}: Address already in use; choose with --host and --port"
    assert (json.loads(line)["event"], json.loads(line)["reason"]) == ("cannot start", reason)


def test_an_address_of_elsewhere(small_store: Path) -> None:
    status, printed = start("--store", small_store, "--host", "192.0.2.1")
    assert status == 1
    assert "cannot listen on 192.0.2.1:8000: Cannot assign requested address" in printed


def test_an_address_that_is_no_name(small_store: Path) -> None:
    status, printed = start("--store", small_store, "--host", "a..b")
    assert status == 1
    (line,) = printed.splitlines()
    assert json.loads(line)["reason"] == "cannot listen on a..b:8000: no such name; choose with --host"


def test_an_application_that_does_not_start_is_one_clear_line(small_store: Path) -> None:
    """And it never said that it serves."""
    code = """
import sys
from service import __main__
from service.engine import engine

def no_thread(*_):
    raise RuntimeError("can't start new thread")

engine.Lane = no_thread
sys.argv[1:] = ["--port", "0", "--log-level", "info", "--store", sys.argv[1]]
__main__.main()
"""
    command = [sys.executable, "-W", "error", "-c", code, str(small_store)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    *loaded, line = map(json.loads, ended.stderr.splitlines())
    assert {told["event"] for told in loaded} == {"loaded"}
    reason = "the application does not start: RuntimeError: can't start new thread"
    assert (line["event"], line["reason"]) == ("cannot start", reason)


def test_it_has_as_many_open_files_as_it_needs(small_store: Path) -> None:
    code = """
import resource, sys
from service import __main__, server

resource.setrlimit(resource.RLIMIT_NOFILE, (128, 200))
server.listen = __main__.listen = lambda *_: sys.exit(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
sys.argv[1:] = ["--max-connections", "120", "--store", sys.argv[1]]
__main__.main()
"""
    command = [sys.executable, "-W", "error", "-c", code, str(small_store)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 200
    (line,) = map(json.loads, ended.stderr.splitlines())
    assert (line["event"], line["allowed"], line["needed"]) == ("too few open files", 200, 220)


def test_a_broken_artifact_is_one_clear_line(tmp_path: Path, write_artifact: Callable[..., Path]) -> None:
    graph = write_artifact(tmp_path) / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:50])
    status, printed = start("--store", tmp_path)
    assert status == 1
    (line,) = printed.splitlines()
    assert json.loads(line)["reason"].startswith(f"{graph}: has 50 bytes, the card says")


def test_a_digits_model_of_another_image_shape(tmp_path: Path, write_artifact: Callable[..., Path]) -> None:
    write_artifact(tmp_path, change=lambda card: card.update(image_shape=[8, 8]))
    status, printed = start("--store", tmp_path)
    assert status == 1
    assert "reads images of shape (8, 8); /v1/digits needs 28 x 28" in printed


@pytest.mark.parametrize(
    ("labels", "wrong"),
    [
        ([f"digit {n}" for n in range(10)], "has the labels digit 0, digit 1, "),
        ([*"9876543210"], "/v1/digits needs 0 to 9 in this order"),
        (["0", "1"], "card.json: document: Value error, 2 labels for an output of shape ['batch', 10]"),
    ],
)
def test_a_digits_model_of_other_labels(
    tmp_path: Path, write_artifact: Callable[..., Path], labels: list[str], wrong: str
) -> None:
    write_artifact(tmp_path, change=lambda card: card.update(labels=labels))
    status, printed = start("--store", tmp_path)
    assert status == 1
    assert wrong in printed


def test_a_store_without_digits_serves_the_rest(
    serve: Serve, tmp_path: Path, write_artifact: Callable[..., Path]
) -> None:
    write_artifact(tmp_path, name="letters")
    with serve("--store", tmp_path) as server:
        response = server.client.post("/v1/digits", json={"pixels": [0, 1] * 392})
        assert response.status_code == 404
        assert response.json()["detail"] == "there is no model 'digits'; this server has letters"


def test_bad_flags_are_refused() -> None:
    status, printed = start("--port", "x")
    assert status == 2
    assert printed.startswith("python -m service: --port or MOMENTUM_PORT: ")


def test_console_logs_are_for_people(small_store: Path) -> None:
    status, printed = start("--store", small_store / "missing", "--log-format", "console")
    assert status == 1
    assert "cannot start" in printed
    assert not printed.startswith("{")


def test_the_service_needs_neither_torch_nor_onnx() -> None:
    code = "import sys, service, service.__main__; print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = {name.partition(".")[0] for name in ended.stdout.split()}
    assert not loaded & {"torch", "onnx", "lightning", "sklearn", "scipy", "models", "training"}
    assert {name for name in ended.stdout.split() if name.startswith("exports")} == {
        "exports",
        "exports.card",
    }
