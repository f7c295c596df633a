"""Connections of clients that send slowly, too much, or nothing, and of those that do not read."""

from __future__ import annotations

import json
import math
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import uvicorn
from uvicorn.server import ServerState

from service.http.date import Date
from service.http.protocol import HTTPProtocol
from service.http.refusals import Refusal
from tests.service.faults.load import wait_until

GET = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n"
POST_HEAD = b"POST /v1/digits HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
CHUNKED = b"POST /v1/digits HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADE = (
    b"GET /v1/frames/stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def digit_request() -> bytes:
    """A question that takes its time."""
    body = json.dumps({"pixels": [0, 1] * 392}).encode()
    return f"POST /v1/digits HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.fixture(scope="module")
def strict_server(serve: Any, small_store: Path) -> Iterator[Any]:
    """A server with little patience."""
    with serve(
        "--store", small_store, "--head-seconds", 1, "--answer-seconds", 1, "--max-connections", 8
    ) as server:
        yield server


def connect(server: Any, receive_bytes: int | None = None) -> socket.socket:
    """A connection; `receive_bytes` bounds what the system takes for it before it is read."""
    connection = socket.socket()
    connection.settimeout(60)
    if receive_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.connect(server.address)
    return connection


def rest(connection: socket.socket) -> bytes:
    """What arrives until the server closes the connection."""
    answer = b""
    with suppress(ConnectionError):  # closed before it had read all
        while received := connection.recv(65536):
            answer += received
    return answer


def refused(server: Any, reason: str) -> int:
    """How many connections the server's metrics say were refused for that."""
    found = re.search(rf'{{reason="{reason}"}} (\d+)', server.client.get("/metrics").text)
    assert found is not None
    return int(found[1])


def test_a_head_that_trickles_ends(strict_server: Any) -> None:
    """Slowloris."""
    before = refused(strict_server, "head_timeout")
    with connect(strict_server) as connection:
        connection.sendall(b"GET /v1/status HTTP/1.1\r\nX: ")
        connection.settimeout(0.02)
        answer = b""
        for _ in range(3000):
            try:
                answer = connection.recv(65536)
                break
            except TimeoutError:
                with suppress(ConnectionError):
                    connection.sendall(b"x")
        connection.settimeout(60)
        answer += rest(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in head
    assert b"x-content-type-options: nosniff" in head
    problem = json.loads(body)
    assert (problem["status"], problem["detail"]) == (408, "the head had not arrived after 1 seconds")
    assert refused(strict_server, "head_timeout") == before + 1
    (line,) = [
        line for line in strict_server.log() if problem["instance"].endswith(line.get("request_id", "-"))
    ]
    assert (line["event"], line["reason"], line["status"]) == ("connection refused", "head_timeout", 408)


def test_silence_ends_without_a_word(strict_server: Any) -> None:
    with connect(strict_server) as connection:
        assert rest(connection) == b""


@pytest.mark.parametrize(("flags", "least", "most"), [([], 8, None), (["--keep-alive-seconds", 1], 0.9, 8)])
def test_an_idle_connection_is_kept_for_as_long_as_the_setting_says(
    serve: Any, small_store: Path, flags: list[Any], least: float, most: float | None
) -> None:
    with serve("--store", small_store, *flags) as server, connect(server) as connection:
        connection.sendall(GET + b"\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        begun = time.monotonic()
        connection.settimeout(most or least)
        if most is None:
            with pytest.raises(TimeoutError):
                rest(connection)
        else:
            rest(connection)
        assert time.monotonic() - begun > least - 0.1


def send_slowly(connection: socket.socket, data: bytes) -> None:
    for byte in data:
        connection.sendall(bytes([byte]))
        time.sleep(0.02)


def is_cut_off(connection: socket.socket, filling: bytes) -> bool:
    """Whether the server ends the connection, though the client goes on sending."""
    connection.settimeout(0.02)
    for _ in range(3000):
        try:
            if connection.recv(65536) == b"":
                return True
        except TimeoutError:
            connection.sendall(filling)
        except ConnectionError:
            return True
    return False


def test_line_breaks_keep_nothing_alive(strict_server: Any) -> None:
    """HTTP lets them come before a request, of which they are no part."""
    with connect(strict_server) as connection:
        connection.sendall(GET + b"\r\n")
        connection.recv(65536)
        assert is_cut_off(connection, b"\r\n")


def test_the_rest_of_a_body_that_was_answered_is_not_waited_for(strict_server: Any) -> None:
    with connect(strict_server) as connection:
        connection.sendall(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{")
        assert connection.recv(65536).startswith(b"HTTP/1.1 404 ")
        assert is_cut_off(connection, b" ")


@pytest.mark.parametrize("start", [GET + b"A: ", b"GET /v2/", GET + b"x: y\r\n"])
def test_an_endless_head_is_refused_while_it_arrives(small_server: Any, start: bytes) -> None:
    filling = b"A: b\r\n" if start.endswith(b"\n") else b"abcdef"
    before = refused(small_server, "head_too_large")
    with connect(small_server) as connection:
        connection.sendall(start)
        for _ in range(64):  # a megabyte
            connection.sendall(filling * 2731)
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 431 ")
    if start.startswith(b"GET /v2/"):
        assert b'{"error":"the head has ' in answer
    assert refused(small_server, "head_too_large") == before + 1


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (POST_HEAD.replace(b": 9", b": 20000000"), bytes(20_000_000)),
        (CHUNKED, b"1312d00\r\n" + bytes(20_000_000)),
        (POST_HEAD.replace(b": 9", b": x"), bytes(20_000_000)),
    ],
)
def test_who_sends_all_before_reading_gets_the_refusal(small_server: Any, head: bytes, body: bytes) -> None:
    """More than the two systems between would keep: cut off, the client would see only that."""
    with connect(small_server) as connection:
        connection.sendall(head + body)
        answer = b"".join(iter(partial(connection.recv, 65536), b""))
    assert re.match(rb"HTTP/1.1 4(13|00) .*\r\nconnection: close\r\n", answer, re.IGNORECASE | re.DOTALL)


@pytest.mark.parametrize("head", [POST_HEAD.replace(b": 9", b": 999999999"), b"\x01" * 9, b"\x01" * 70_000])
def test_who_is_refused_may_not_send_for_ever(strict_server: Any, head: bytes) -> None:
    with connect(strict_server) as connection:
        connection.sendall(head)
        assert connection.recv(65536).startswith(b"HTTP/1.1 4")
        while connection.recv(65536):
            pass
        with pytest.raises(ConnectionError):
            send_slowly(connection, b" " * 3000)


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", GET + b": \r\n\r\n"])
def test_what_is_not_http_is_refused(small_server: Any, sent: bytes) -> None:
    with connect(small_server) as connection:
        connection.sendall(sent + b"\r\n\r\n")
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Invalid HTTP request received." in answer


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: 99999999999999999999999999\r\n",
        b"Transfer-Encoding: chunked, gzip\r\n",
    ],
)
def test_lengths_that_proxies_and_servers_read_otherwise(small_server: Any, lines: bytes) -> None:
    """Request smuggling."""
    with connect(small_server) as connection:
        connection.sendall(b"POST /v1/digits HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\nhello")
        assert rest(connection).startswith(b"HTTP/1.1 400 ")


def test_many_requests_on_one_connection(strict_server: Any) -> None:
    with connect(strict_server) as connection:
        connection.sendall((GET + b"\r\n") * 19 + GET + b"Connection: close\r\n\r\n")
        assert rest(connection).count(b'{"live":true}') == 20


def test_no_more_than_so_many_may_come_before_an_answer(small_server: Any) -> None:
    """Each takes a moment to be read, and nobody else is served meanwhile."""
    before = refused(small_server, "pipelined")
    with connect(small_server) as connection:
        connection.sendall((GET + b"\r\n") * 1000)
        answers = rest(connection).split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"200"] * 257 + [b"429"]
    assert b"256 requests of this connection wait" in answers[-1]
    assert refused(small_server, "pipelined") == before + 1


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("pieces", [1, 2, 1000])
def test_who_would_like_http_2_is_answered_in_http_1(small_server: Any, chunked: bool, pieces: int) -> None:
    """As Java's client asks by default, with the body of the first request behind it."""
    head, _, body = digit_request().partition(b"\r\n\r\n")
    wish = (
        b"\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA"
        b"\r\nUpgrade: h2c\r\n\r\n"
    )
    if chunked:
        head = CHUNKED.removesuffix(b"\r\n\r\n")
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    post, get = head + wish + body, GET.removesuffix(b"\r\n") + wish
    sent = get + post + get + post + digit_request() + GET + b"Connection: close\r\n\r\n"
    size = math.ceil(len(sent) / pieces)
    with connect(small_server) as connection:
        for start in range(0, len(sent), size):
            connection.sendall(sent[start : start + size])
        answers = rest(connection).split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"200"] * 6
    assert [b'"digit":' in answer for answer in answers] == [False, True, False, True, True, False]


def test_connections_are_bounded(strict_server: Any) -> None:
    strict_server.client.get("/v2/health/live")
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(strict_server)) for _ in range(30)]
        answers = [rest(connection) for connection in connections]
        turned_away = [answer for answer in answers if answer]
        assert len(turned_away) >= 30 - 8 - 8  # of which so many wait for a probe
        assert all(answer.startswith(b"HTTP/1.1 429 ") for answer in turned_away)
        assert all(b"\r\nretry-after: 1\r\n" in answer for answer in turned_away)
        assert all(b"8 connections are open, and no more may be" in answer for answer in turned_away)
    assert refused(strict_server, "connections") >= len(turned_away)


def test_probes_are_answered_when_no_more_connections_may_be(serve: Any, small_store: Path) -> None:
    """Else a load balancer would take a busy server for a dead one."""
    with serve("--store", small_store, "--max-connections", 1) as server, connect(server) as only:
        only.sendall(GET + b"\r\n")
        assert only.recv(65536).startswith(b"HTTP/1.1 200 ")
        only.sendall(POST_HEAD)  # and is kept
        for path, status in ((b"/v2/health/live", b"200"), (b"/v2/health/ready", b"200"), (b"/v2", b"429")):
            with connect(server) as probe:
                probe.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
                answer = rest(probe)  # to the end: it is not kept
            assert answer.startswith(b"HTTP/1.1 " + status)
        with connect(server) as probe:
            probe.sendall(GET + b"\r\nGET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert rest(probe).count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("start", [b"A: ", b"A: b\r\n"])
def test_endless_trailers_are_refused_while_they_arrive(small_server: Any, start: bytes) -> None:
    filling = b"A: b\r\n" if start.endswith(b"\n") else b"abcdef"
    before = refused(small_server, "head_too_large")
    with connect(small_server) as connection:
        connection.sendall(CHUNKED + b"2\r\n{}\r\n0\r\n" + start)
        for _ in range(64):  # a megabyte
            connection.sendall(filling * 2731)
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert refused(small_server, "head_too_large") == before + 1


def test_trailers_are_no_headers(small_server: Any) -> None:
    with connect(small_server) as connection:
        for size in (1, 5000):  # more than the limit together, but each is of another request
            for _ in range(5):
                trailers = b"X-Request-ID: trailer\r\n" * size
                connection.sendall(CHUNKED + b"2\r\n{}\r\n0\r\n" + trailers[:50_000] + b"\r\n\r\n")
                answer = b""
                while not answer.endswith(b"}"):
                    answer += connection.recv(65536)
                assert answer.startswith(b"HTTP/1.1 422 ")
                assert b"trailer" not in answer


def test_chunks_are_no_trailers(small_server: Any) -> None:
    """However little is in each."""
    with connect(small_server) as connection:
        connection.sendall(CHUNKED)
        for _ in range(30):
            connection.sendall(b"1\r\n \r\n" * 1000)  # nine times as much as there may be in a head
        connection.sendall(b"2\r\n{}\r\n0\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 422 ")


WRONG = [
    b"\x16\x03\x01",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET http://[bad/x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    CHUNKED + b"nonsense\r\n",
    UPGRADE,
]


@pytest.mark.parametrize(
    ("count", "wrong"),
    [(count, wrong) for count in (0, 1, 3) for wrong in WRONG if count or wrong != UPGRADE],
)
def test_what_came_before_a_refusal_is_answered_first(small_server: Any, count: int, wrong: bytes) -> None:
    """Else the refusal would be taken for the answer to the first request."""
    before = refused(small_server, "invalid_http")
    with connect(small_server) as connection:
        connection.sendall(digit_request() * count + wrong)
        answers = rest(connection).split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"200"] * count + [b"400"]
    assert all(b'"digit":' in answer for answer in answers[:-1])
    assert refused(small_server, "invalid_http") == before + 1


def test_a_request_that_breaks_is_refused_at_once(small_server: Any) -> None:
    """In its body, while the application waits for the rest; and not a second time once it is answered."""
    with connect(small_server) as connection:
        connection.sendall(CHUNKED)
        time.sleep(0.1)
        connection.sendall(b"nonsense\r\n")
        assert rest(connection).count(b"HTTP/1.1 400 ") == 1
    with connect(small_server) as connection:
        connection.sendall(CHUNKED.replace(b"/v1/digits", b"/nothing"))
        answer = connection.recv(65536)
        connection.sendall(b"nonsense\r\n")
        answer += rest(connection)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_who_would_be_told_to_go_on_is_not_when_refused(small_server: Any) -> None:
    with connect(small_server) as connection:
        connection.sendall(CHUNKED[:-2] + b"Expect: 100-continue\r\nX-Request-ID: refused\r\n\r\nzz\r\n")
        assert rest(connection).startswith(b"HTTP/1.1 400 ")
    assert [line["status"] for line in small_server.logged("refused")] == [499]


def test_who_leaves_before_several_answers_is_written_nothing(small_server: Any) -> None:
    file = b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\nX-Request-ID: leaves\r\n\r\n"
    with connect(small_server, receive_bytes=4096) as connection:
        connection.sendall(file + GET + b"\r\n")
        time.sleep(0.3)  # the file is on its way, and more than the systems between keep
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
    small_server.logged("leaves")
    assert "Traceback" not in small_server.log_file.read_text()


def test_who_does_not_take_an_answer_is_cut_off(strict_server: Any) -> None:
    before = refused(strict_server, "answer_stalled")
    body = json.dumps({"images": [[0, 1] * 392] * 10}).encode()
    head = b"POST /v1/digits?trace=1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    request = head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    with connect(strict_server, receive_bytes=4096) as connection:
        connection.sendall(request)
        for _ in range(30):  # more answers than the two systems between would keep
            try:
                connection.sendall(request)
            except OSError:
                break
        wait_until(lambda: refused(strict_server, "answer_stalled") > before, "cut off")
    assert "answer stalled" in [line["event"] for line in strict_server.log()]


def protocol_on(loop: Mock, transport: Mock, refusals: Counter[Refusal]) -> HTTPProtocol:
    transport.get_extra_info.return_value = None
    protocol = HTTPProtocol(
        uvicorn.Config(Mock(), log_config=None),
        ServerState(),
        {},
        loop,
        connections=1,
        head_seconds=20,
        answer_seconds=60,
        refusals=refusals,
        direct=None,
        date=Date(),
    )
    protocol.connection_made(transport)
    return protocol


def test_nothing_is_left_of_a_connection_that_was_reset() -> None:
    """Uvicorn would keep it for as long as an idle one."""
    timers: list[Mock] = []
    loop, transport = Mock(), Mock()
    loop.call_later.side_effect = lambda *_: timers.append(Mock()) or timers[-1]
    transport.is_closing.return_value = False
    transport.get_write_buffer_size.return_value = 1
    protocol = protocol_on(loop, transport, Counter())
    protocol.on_response_complete()
    assert len(timers) == 3  # for a head, for the next request, for the answer to be taken
    protocol.connection_lost(ConnectionResetError())
    for timer in timers:
        timer.cancel.assert_called()


def test_who_takes_it_slowly_is_not() -> None:
    loop, transport, refusals = Mock(), Mock(), Counter[Refusal]()
    protocol = protocol_on(loop, transport, refusals)

    def unsent(size: int) -> None:
        transport.get_write_buffer_size.return_value = size

    def look() -> None:
        loop.call_later.call_args.args[1]()

    unsent(1000)
    protocol.pause_writing()
    for size in (999, 500, 499):
        unsent(size)
        look()
    protocol.resume_writing()  # the client took most of it, and the application wrote more
    protocol.pause_writing()
    unsent(5000)
    look()
    unsent(4999)
    look()
    transport.abort.assert_not_called()
    look()
    transport.abort.assert_called_once()
    assert refusals == {Refusal.ANSWER_STALLED: 1}
