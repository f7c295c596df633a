"""When a request has to be answered, and what becomes of those that are not."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from fastapi import Request, Response
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from service.http import deadline as module
from service.http.counts import RequestCounts
from service.http.deadline import RequestDeadline, deadline
from service.http.middleware import RequestContext
from service.http.refusals import Refusal, Refusals

Endpoint = Callable[[Request], Awaitable[Response]]


def ask(
    endpoint: Endpoint, sent: str | None = None, body_arrives: bool = True, default: float = 60
) -> tuple[int, dict[str, Any], Refusals]:
    """Ask an endpoint behind the deadline; status, problem and what was counted."""
    refusals: Refusals = Counter()
    answer: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await endpoint(Request(scope, receive, send))
        await response(scope, receive, send)

    async def receive() -> Message:
        if not body_arrives:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        answer.append(message)

    async def main() -> None:
        front = RequestContext(RequestDeadline(app, default, 600, refusals), refusals, RequestCounts())
        headers = [] if sent is None else [(b"x-request-timeout", sent.encode("latin-1"))]
        await front({"type": "http", "method": "POST", "path": "/v1/x", "headers": headers}, receive, send)
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()

    asyncio.run(main())
    return answer[0]["status"], orjson.loads(answer[1]["body"]), refusals


async def left(request: Request) -> Response:
    """Answer the seconds until the deadline."""
    return Response(orjson.dumps(deadline(request.scope) - asyncio.get_running_loop().time()))


async def stuck(request: Request) -> Response:
    """Read the body and never answer."""
    await request.body()
    await asyncio.Event().wait()
    return Response()


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [(None, 60), ("600", 600), ("600.0", 600), ("17.25", 17.25), ("007", 7), (str(0.1 + 0.2), 0.3)],
)
def test_a_request_says_how_long_it_may_take(sent: str | None, seconds: float) -> None:
    status, found, _ = ask(left, sent)
    assert status == 200
    assert seconds - 5 < found <= seconds


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "0",
        "0.0",
        "-1",
        "600.001",
        "1e3",
        "1e2",
        "1e-999",
        "e-1",
        "inf",
        "nan",
        "1s",
        " 1",
        "1,5",
        "٣",
        "9" * 400,
    ],
)
def test_what_is_no_time_is_refused(sent: str) -> None:
    status, problem, _ = ask(left, sent.encode().decode("latin-1"))
    assert (status, problem["title"]) == (400, "Invalid timeout")
    assert problem["expected"] == "seconds in decimals, more than 0 and at most 600"


@given(st.text(st.characters(max_codepoint=255), max_size=12))
def test_any_header_is_a_time_or_refused(sent: str) -> None:
    assert ask(left, sent)[0] in (200, 400)


def test_a_body_that_does_not_arrive_is_not_waited_for() -> None:
    status, problem, refusals = ask(stuck, "0.01", body_arrives=False)
    assert (status, problem["title"]) == (408, "Request Timeout")
    assert problem["detail"] == "the body had not arrived 0.01 seconds after the head"
    assert refusals == {Refusal.BODY_TIMEOUT: 1}


def test_what_is_stuck_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.01)
    status, problem, refusals = ask(stuck, default=0.01)
    assert (status, problem["title"]) == (504, "Deadline exceeded")
    assert problem["detail"] == "there was no answer within 0.01 seconds"
    assert refusals == {Refusal.DEADLINE: 1}


def test_what_is_being_computed_is_waited_for() -> None:
    async def slow(request: Request) -> Response:
        await request.body()
        while asyncio.get_running_loop().time() < deadline(request.scope) + 0.01:
            await asyncio.sleep(0.005)
        return Response(b"{}")

    assert ask(slow, "0.01") == (200, {}, {})


def test_an_answer_that_has_begun_is_seen_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE_SECONDS", 0)

    class Slow(Response):
        async def __call__(self, _: Scope, __: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await asyncio.sleep(0.1)
            await send({"type": "http.response.body", "body": b"{}"})

    async def begin(_: Request) -> Response:
        return Slow()

    assert ask(begin, "0.01") == (200, {}, {})


def test_a_cancelled_request_stays_cancelled() -> None:
    async def main() -> None:
        async def app(*_: Any) -> None:
            started.set()
            await asyncio.Event().wait()

        async def nothing(*_: Any) -> Any:
            raise AssertionError("there is nobody to answer")

        started = asyncio.Event()
        front = RequestDeadline(app, 60, 600, Counter())
        task = asyncio.create_task(front({"type": "http", "path": "/", "headers": []}, nothing, nothing))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/v1/digits", "/v1/frames", "/v2/models/digits/infer"])
def test_a_body_that_trickles_ends(small_server: Any, path: str) -> None:
    """Slowloris: a byte now and then is no reason to wait for more."""
    with socket.create_connection(small_server.address, timeout=60) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Request-Timeout: 0.3\r\nContent-Length: 100000\r\n\r\n"
        connection.sendall(head.encode())
        connection.settimeout(0.02)
        answer = b""
        for _ in range(3000):
            try:
                if received := connection.recv(65536):
                    answer += received
                    continue
                break  # closed
            except TimeoutError:
                connection.sendall(b"{")
            except ConnectionError:  # closed before it had read all
                break
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer.lower()


def test_the_rule_is_the_same_everywhere(small_server: Any) -> None:
    for path in ("/v1/digits", "/v1/frames", "/v2/models/digits/infer", "/v2/health/live", "/metrics"):
        response = small_server.client.get(path, headers={"X-Request-Timeout": "soon"})
        assert response.status_code == 400
