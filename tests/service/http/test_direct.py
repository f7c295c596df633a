"""Requests that are answered without a task: as all others are."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from starlette.types import Scope

from service.app import create_app
from service.http import direct as module
from service.http import problems, stack
from service.http.counts import RequestCounts
from service.http.direct import Exchange
from service.http.keys import Access, add
from service.http.problems import StatusProblem
from service.http.refusals import Refusal, Refusals
from service.http.routes import BareRoute, Done, Leave, Shortcut
from service.settings import Settings

PIXELS = json.dumps({"pixels": [0, 1] * 392})
TENSOR = {"name": "pixels", "datatype": "FP32", "shape": [1, 3], "data": [1.0, 0.0, 0.5]}
INFER = "/v2/models/digits/infer"


def infer(**more: Any) -> str:
    return json.dumps({"inputs": [TENSOR]} | more)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("keys") / "keys.toml"
    add(path, "ops", frozenset({Access.ADMIN}), None, None)
    return path, add(path, "ada", frozenset({Access.INFER}), None, None)


@pytest.fixture(scope="module")
def guarded(serve: Any, small_store: Path, key: tuple[Path, str]) -> Iterator[Any]:
    with serve("--store", small_store, "--api-keys", key[0]) as server:
        yield server


def request(path: str, body: str, **headers: str) -> tuple[bytes, bytes]:
    """Head and body of a POST."""
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode(), body.encode()


def answer(connection: socket.socket) -> tuple[bytes, bytes]:
    """Head and body of the next answer."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", head)
    assert found is not None
    while len(body) < int(found[1]):
        body += connection.recv(65536)
    return head, body


def alike(head: bytes, body: bytes) -> tuple[list[bytes], bytes]:
    """What does not differ between two answers to one request."""
    lines = [line for line in head.split(b"\r\n") if not line.startswith((b"date", b"content-length"))]
    return lines, re.sub(rb'("milliseconds":|: |has |takes )[0-9.]+', rb"\1", body)


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/v1/digits", PIXELS, {}),
        ("/v1/digits", '{"images": [[1]]}', {}),
        ("/v1/digits", "{", {"Content_Type": "application/json"}),
        ("/v1/digits", "no image", {}),
        ("/v1/digits?trace=100", PIXELS, {}),
        ("/v1/digits", PIXELS, {"Content_Encoding": "gzip"}),
        ("/v1/digits", PIXELS, {"X_Request_Timeout": "soon"}),
        ("/v1/digits", PIXELS, {"X_API_Key": "unknown"}),
        ("/v1/digits", PIXELS, {"Connection": "close"}),
        (INFER, infer(), {}),
        (INFER, infer(id="a"), {}),
        (INFER, infer(outputs=[{"name": "trace"}]), {}),
        (INFER, infer(parameters={"sequence_id": "absent"}), {}),
        (INFER, "[]", {}),
        (INFER, infer(), {"Inference_Header_Content_Length": "9999"}),
        ("/v2/models/nobody/infer", infer(), {}),
        ("/v2/models/digits/versions/7/infer", infer(), {}),
    ],
)
def test_both_ways_answer_alike(
    guarded: Any, key: tuple[Path, str], path: str, body: str, headers: dict[str, str]
) -> None:
    """A request that arrives whole takes the short way, one whose body takes its time the long one."""
    answers, lines = [], []
    for pause in (0.0, 4 * 0.05):
        name = f"{pause}-{time.monotonic_ns()}"
        head, content = request(path, body, **{"X_API_Key": key[1], "X_Request_ID": name} | headers)
        with socket.create_connection(guarded.address, 60) as connection:
            if pause:
                connection.sendall(head)
                time.sleep(pause)
                connection.sendall(content)
            else:
                connection.sendall(head + content)
            first, rest = answer(connection)
            answers.append(alike(first.replace(name.encode(), b""), rest.replace(name.encode(), b"")))
        logged = guarded.logged(name)
        varies = ("milliseconds", "request_id", "timestamp")
        lines.append([{key: value for key, value in line.items() if key not in varies} for line in logged])
    assert answers[0] == answers[1]
    assert lines[0] == lines[1]


def test_answers_come_in_order_whichever_way(guarded: Any, key: tuple[Path, str]) -> None:
    head, content = request(INFER, infer(id="first"), X_API_Key=key[1])
    status = f"GET /v2/models/digits HTTP/1.1\r\nHost: x\r\nX-API-Key: {key[1]}\r\n\r\n".encode()
    last = b"".join(request(INFER, infer(id="last"), X_API_Key=key[1]))
    with socket.create_connection(guarded.address, 60) as connection:
        connection.sendall(head + content + status + last)
        received = b""
        while b'"last"' not in received:
            received += connection.recv(65536)
    places = [received.index(word) for word in (b'"first"', b'"platform"', b'"last"')]
    assert places == sorted(places)


def test_a_sequence_can_be_gone_on_with_at_once(guarded: Any, key: tuple[Path, str]) -> None:
    """Its second request may come on another connection before the first has run."""
    with (
        socket.create_connection(guarded.address, 60) as first,
        socket.create_connection(guarded.address, 60) as second,
    ):
        for number in range(20):
            name = f"at-once-{number}"
            started = infer(parameters={"sequence_id": name, "sequence_start": True})
            goes_on = infer(parameters={"sequence_id": name})
            guarded.process.send_signal(signal.SIGSTOP)  # so that both are there when it looks
            first.sendall(b"".join(request(INFER, started, X_API_Key=key[1])))
            second.sendall(b"".join(request(INFER, goes_on, X_API_Key=key[1])))
            guarded.process.send_signal(signal.SIGCONT)
            assert answer(first)[0].startswith(b"HTTP/1.1 200")
            assert answer(second)[0].startswith(b"HTTP/1.1 200")


def test_any_number_may_come_at_once(guarded: Any, key: tuple[Path, str]) -> None:
    """An answer that is there at once leads to the next request, but not within its own."""
    one = b"".join(request("/v2/models/nobody/infer", "{}", X_API_Key=key[1]))
    valid = b"".join(request(INFER, infer(id="last"), X_API_Key=key[1]))
    with socket.create_connection(guarded.address, 60) as connection:
        connection.sendall(valid + 250 * one + valid)
        received = b""
        while received.count(b'"last"') < 2:
            received += connection.recv(65536)
    assert received.count(b"HTTP/1.1 404 ") == 250
    assert "Traceback" not in guarded.log_file.read_text()


def test_a_head_without_body_goes_before_what_follows(guarded: Any, key: tuple[Path, str]) -> None:
    head = b"HEAD /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    bad = b"".join(request("/v2/models/nobody/infer", "{}", X_API_Key=key[1]))
    for follows, status in ((bad, b"404"), (b"garbage\r\n\r\n", b"400")):
        with socket.create_connection(guarded.address, 60) as connection:
            connection.sendall(head + follows)
            received = b""
            while received.count(b"HTTP/1.1 ") < 2:
                received += connection.recv(65536)
        assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200", status]


def test_a_connection_with_a_refused_request_is_kept_as_long_as_others(serve: Any, small_store: Path) -> None:
    with serve("--store", small_store, "--head-seconds", 1) as server:
        bad = b"".join(request("/v2/models/nobody/infer", "{}"))
        with socket.create_connection(server.address, 60) as connection:
            for _ in range(2):
                connection.sendall(bad)
                assert answer(connection)[0].startswith(b"HTTP/1.1 404")
                time.sleep(1.5)
            connection.sendall(bad)
            assert answer(connection)[0].startswith(b"HTTP/1.1 404")


def test_a_length_of_many_digits(guarded: Any, key: tuple[Path, str]) -> None:
    head, content = request(INFER, infer(), X_API_Key=key[1])
    head = head.replace(b"Content-Length: ", b"Content-Length: " + 5000 * b"0")
    with socket.create_connection(guarded.address, 60) as connection:
        connection.sendall(head + content)
        assert answer(connection)[0].startswith(b"HTTP/1.1 200")


def test_a_client_that_leaves_with_half_a_body_is_logged(guarded: Any, key: tuple[Path, str]) -> None:
    head, content = request(INFER, infer(), X_API_Key=key[1], X_Request_ID="half")
    with socket.create_connection(guarded.address, 60) as connection:
        connection.sendall(head + content[:9])
    assert [line["status"] for line in guarded.logged("half")] == [499]


class Stuck:
    """A shortcut that does what a test wants, or nothing."""

    def __init__(self) -> None:
        self.left = 0
        self.done: Done | None = None

    def begin(self, _: Scope, body: bytes, done: Done) -> Leave:
        if body == b"fail":
            raise ZeroDivisionError
        if body == b"refuse":
            raise StatusProblem(400, "no")
        self.done = done
        return partial(self._leave, done)

    def _leave(self, _: Done) -> None:
        """It knows whom to call, as the engine's requests do."""
        self.left += 1


class Bench:
    """A request to a stuck route, without a server."""

    def __init__(self) -> None:
        self.stuck = Stuck()
        self.refusals: Refusals = Refusals()
        self.requests = RequestCounts()
        app = FastAPI()
        problems.install(app)
        BareRoute.add(app, "/v1/x", self._endpoint, Shortcut(self.stuck.begin), methods=["POST"])
        self.direct = stack.build(app, Settings(), self.requests, self.refusals, traced=False).direct
        self.sent: list[Response] = []

    async def _endpoint(self, _: Request) -> Response:
        raise AssertionError("the long way")

    def begin(self, body: bytes = b"", timeout: bytes = b"60") -> Exchange:
        assert self.direct is not None
        headers = [(b"x-request-timeout", timeout)]
        scope = {"type": "http", "method": "POST", "path": "/v1/x", "headers": headers}
        way = self.direct.find(scope)
        assert way is not None
        exchange = Exchange(way, scope, self.sent.append)
        exchange.begin(body)
        return exchange

    @property
    def statuses(self) -> list[int]:
        """Of the answers; the counts agree."""
        sent = [response.status_code for response in self.sent]
        assert [status for _, _, status in self.requests.answered.elements() if status != 499] == sent
        return sent


def bench(check: Callable[[Bench], Any]) -> None:
    async def main() -> None:
        await check(Bench())

    asyncio.run(main())


def test_what_is_stuck_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.01)

    async def check(bench: Bench) -> None:
        bench.begin(timeout=b"0.01")
        while not bench.sent:
            await asyncio.sleep(0.01)
        assert bench.statuses == [504]
        assert bench.sent[0].headers["connection"] == "close"
        assert bench.stuck.left == 1
        assert bench.refusals[Refusal.DEADLINE] == 1
        assert bench.stuck.done is not None
        bench.stuck.done(Response("too late"))
        assert bench.statuses == [504]

    bench(check)


def test_nothing_of_a_request_is_left() -> None:
    """Not even for the collector, which is slow where most of what there is was frozen."""

    def exchanges() -> int:
        return sum(type(thing) is Exchange for thing in gc.get_objects())

    async def check(bench: Bench) -> None:
        gc.collect()
        before = exchanges()
        gc.disable()
        try:
            bench.begin(b"refuse")
            bench.begin()
            assert bench.stuck.done is not None
            bench.stuck.done(Response("done"))
            bench.stuck.done = None
            await asyncio.sleep(0.01)
            assert sorted(bench.statuses) == [200, 400]
            assert exchanges() == before
        finally:
            gc.enable()

    bench(check)


def test_who_leaves_is_waited_for_no_longer() -> None:
    async def check(bench: Bench) -> None:
        exchange = bench.begin()
        exchange.disconnect()
        assert bench.stuck.left == 1
        assert bench.refusals[Refusal.CLIENT_LEFT] == 1
        assert [*bench.requests.answered] == [("/v1/x", "POST", 499)]
        assert bench.stuck.done is not None
        bench.stuck.done(Response("nobody reads it"))
        assert bench.statuses == []

    bench(check)


def test_a_failure_is_a_500_and_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    async def check(bench: Bench) -> None:
        bench.begin()
        assert bench.stuck.done is not None
        bench.stuck.done(ZeroDivisionError())
        bench.begin(b"fail")
        await asyncio.sleep(0)
        assert bench.statuses == [500, 500]

    bench(check)
    assert capsys.readouterr().out.count("ZeroDivisionError") >= 2


@pytest.mark.parametrize(
    ("headers", "short"),
    [
        ([], True),
        ([(b"content-length", b"65536")], True),
        ([(b"content-length", b"65537")], False),
        ([(b"transfer-encoding", b"chunked")], False),
        ([(b"expect", b"100-continue")], False),
    ],
)
def test_only_short_bodies_take_the_short_way(headers: list[tuple[bytes, bytes]], short: bool) -> None:
    scope = {"type": "http", "method": "POST", "path": "/v1/x", "headers": headers}

    async def check(bench: Bench) -> None:
        assert bench.direct is not None
        assert (bench.direct.find(scope) is not None) == short
        assert bench.direct.find(scope | {"method": "GET"}) is None
        assert bench.direct.find(scope | {"path": "/v1/y"}) is None

    bench(check)


def test_pages_of_elsewhere_take_the_long_way(small_store: Path) -> None:
    assert create_app(Settings(store=small_store)).direct is not None
    assert create_app(Settings(store=small_store, cors_origins=["https://example.org"])).direct is None
