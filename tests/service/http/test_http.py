"""What holds for every request: its id, its line in the log, limits on its body, and errors as problem
documents.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from service import Settings, create_app
from tests.service.faults.load import wait_until


@pytest.mark.parametrize(
    ("method", "path", "status", "detail", "expected"),
    [
        ("GET", "/nothing", 404, "there is nothing at /nothing", "a path listed at /docs"),
        ("GET", "/v1/digits", 405, "/v1/digits does not answer GET", "the method POST"),
        ("DELETE", "/v1/digits", 405, "/v1/digits does not answer DELETE", "the method POST"),
        ("POST", "/", 405, "/ does not answer POST", "the method GET"),
    ],
)
def test_errors_are_problem_documents(
    small_server: Any, method: str, path: str, status: int, detail: str, expected: str
) -> None:
    response = small_server.client.request(method, path)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == {
        "type": "about:blank",
        "title": {404: "Not Found", 405: "Method Not Allowed"}[status],
        "status": status,
        "detail": detail,
        "instance": f"urn:request:{response.headers['x-request-id']}",
        "expected": expected,
    }
    assert response.status_code == status
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "/v2/nothing", 404, "there is nothing at /v2/nothing; expected a path listed at /docs"),
        (
            "GET",
            "/v2/models/digits/infer",
            405,
            "/v2/models/digits/infer does not answer GET; expected the method POST",
        ),
    ],
)
def test_errors_under_v2_say_what_was_sent_and_what_was_expected(
    small_server: Any, method: str, path: str, status: int, error: str
) -> None:
    response = small_server.client.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {"error": error}


def test_health(small_server: Any) -> None:
    assert small_server.client.get("/v2/health/live").json() == {"live": True}
    response = small_server.client.get("/v2/health/ready")
    assert (response.status_code, response.json()) == (
        200,
        {"ready": True, "live": True, "problems": []},
    )


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready"])
def test_health_may_be_asked_for_without_a_body(small_server: Any, path: str) -> None:
    response = small_server.client.head(path)
    assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/digits"), ("POST", "/v1/frames"), ("PUT", "/v1/streams/x/state")]
)
def test_compressed_bodies_are_refused(small_server: Any, method: str, path: str) -> None:
    def status(encoding: str) -> int:
        headers = {"Content-Encoding": encoding, "Content-Type": "application/octet-stream"}
        response = small_server.client.request(method, path, content=b"x", headers=headers)
        assert "Content-Encoding" in response.text or response.status_code == 422
        return int(response.status_code)

    assert [status(encoding) for encoding in ("gzip", "identity", "br")] == [415, 422, 415]


def test_not_ready_before_the_engine_runs(small_store: Path) -> None:
    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(Settings(store=small_store)))  # runs no lifespan
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.get("/v2/health/ready")

    response = asyncio.run(main())
    assert (response.status_code, response.json()) == (
        503,
        {"ready": False, "live": False, "problems": []},
    )


def test_the_documentation_needs_no_other_host(small_server: Any) -> None:
    response = small_server.client.get("/docs")
    assert response.status_code == 200
    links = re.findall(r'(?:src|href)="([^"]+)"', response.text)
    assert any(link.endswith("swagger-ui-bundle.js") for link in links)
    for link in links:  # all of them here: the page works without any other host
        assert link.startswith("/")
        assert small_server.client.get(link).status_code == 200


def test_a_sane_request_id_is_kept_and_logged(small_server: Any) -> None:
    response = small_server.client.get("/v1/digits", headers={"x-request-id": "order-66.a_B"})
    assert response.headers["x-request-id"] == "order-66.a_B"
    (line,) = small_server.logged("order-66.a_B")
    assert [line[name] for name in ("event", "method", "path", "status")] == [
        "request",
        "GET",
        "/v1/digits",
        405,
    ]
    assert line["milliseconds"] > 0
    assert line["client"] == "127.0.0.1"


@pytest.mark.parametrize("sent", ["", "a b", "x" * 129, 'quo"te', "<script>"])
def test_other_request_ids_are_replaced(small_server: Any, sent: str) -> None:
    first, second = (
        small_server.client.get("/v2/health/live", headers={"x-request-id": sent}).headers["x-request-id"]
        for _ in range(2)
    )
    assert first != second
    assert len(first) == 32
    assert sent not in (first, second)


def test_a_request_is_logged_once_and_health_checks_are_not(small_server: Any) -> None:
    small_server.client.get("/v2/health/ready", headers={"x-request-id": "probe"})
    small_server.client.get("/nothing", headers={"x-request-id": "once"})
    assert len(small_server.logged("once")) == 1
    assert not [line for line in small_server.log() if line.get("request_id") == "probe"]


PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("content_type", "start"), [("application/octet-stream", b""), ("multipart/form-data; boundary=x", PART)]
)
def test_oversized_bodies(small_server: Any, content_type: str, start: bytes, chunked: bool) -> None:
    pieces = [start, *[bytes(50_000)] * 20]
    response = small_server.client.post(
        "/v1/digits",
        content=iter(pieces) if chunked else b"".join(pieces),
        headers={"content-type": content_type},
    )
    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["title"] == "Body too large"
    assert response.json()["expected"] == "at most 200000 bytes"


def test_a_body_of_the_limit_is_read(small_server: Any) -> None:
    assert small_server.client.post("/v1/digits", content=bytes(200_000)).status_code == 422


def test_an_endless_body_is_refused_while_it_arrives(small_server: Any) -> None:
    with socket.create_connection(small_server.address) as connection:
        connection.sendall(b"POST /v1/digits HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        block = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        for _ in range(4):  # 256 KiB and no end
            connection.sendall(block)
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_length_that_lies_is_answered_before_the_body(small_server: Any) -> None:
    with socket.create_connection(small_server.address) as connection:
        connection.sendall(b"POST /v1/digits HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999999\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_leaves_is_logged_and_harms_nothing(small_server: Any) -> None:
    with socket.create_connection(small_server.address) as connection:
        connection.sendall(
            b"POST /v1/digits HTTP/1.1\r\nHost: x\r\nX-Request-ID: left\r\nContent-Length: 1000\r\n\r\nhalf"
        )
    assert [(line["event"], line["status"]) for line in small_server.logged("left")] == [("request", 499)]


@pytest.mark.parametrize("path", ["/v1/digits", "/v2/models/digits/infer"])
def test_bodies_together_are_bounded(serve: Callable[..., Any], small_store: Path, path: str) -> None:
    """Those that have arrived, however they end."""
    with (
        serve("--store", small_store, "--max-body-bytes", 300_000, "--max-bodies-bytes", 500_000) as server,
        ExitStack() as stack,
    ):

        def begin(head: str, size: int) -> socket.socket:
            connection = stack.enter_context(socket.create_connection(server.address, timeout=60))
            connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode() + bytes(size))
            return connection

        def send(size: int, chunked: bool = False) -> httpx.Response:
            body = bytes(size)
            response: httpx.Response = server.client.post(path, content=iter([body]) if chunked else body)
            return response

        leaving = [begin("Content-Length: 300000", 200_000) for _ in range(2)]
        begin("Content-Length: 300000", 0)  # what is only told takes no room
        wait_until(lambda: send(150_000).status_code == 429, "full")
        response = send(150_000, chunked=True)
        assert (response.status_code, response.headers["retry-after"]) == (429, "1")
        message = "the bodies of all requests together would have more than 500000 bytes"
        assert response.json()["error" if path.startswith("/v2") else "detail"] == message
        assert send(1000).status_code in (400, 422)
        text = server.client.get("/metrics").text
        found = re.search(r'refusals_total{reason="bodies"} (\d+)', text)
        assert found is not None
        assert int(found[1]) >= 2
        leaving.pop().close()
        wait_until(lambda: send(250_000).status_code in (400, 422), "given back when a client leaves")
        leaving.pop().sendall(bytes(100_000))
        for _ in range(5):
            wait_until(lambda: send(300_000).status_code in (400, 422), "given back with the answer")
            assert send(300_001, chunked=True).status_code == 413


def test_a_single_body_may_be_as_long_as_it_may(serve: Callable[..., Any], small_store: Path) -> None:
    with serve("--store", small_store, "--max-body-bytes", 300_000, "--max-bodies-bytes", 1) as server:
        assert server.client.post("/v1/digits", content=bytes(300_000)).status_code == 422


def test_an_uncaught_error_shows_nothing_and_logs_all(
    serve: Callable[..., Any], tmp_path: Path, write_artifact: Callable[..., Path], fragile_graph: bytes
) -> None:
    write_artifact(tmp_path, graph=fragile_graph)
    with serve("--store", tmp_path) as server:
        response: httpx.Response = server.client.post(
            "/v1/digits", json={"pixels": [1] * 783 + [0]}, headers={"x-request-id": "fails"}
        )
        assert response.status_code == 500
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json() == {
            "type": "about:blank",
            "title": "Internal Server Error",
            "status": 500,
            "detail": "the server failed at this request; its log has the details",
            "instance": "urn:request:fails",
        }
        failure, line = server.logged("fails")
        assert failure["level"] == "error"
        assert "Traceback" in failure["exception"]
        assert "onnxruntime" in failure["exception"]
        assert (line["event"], line["status"]) == ("request", 500)
        assert server.client.post("/v1/digits", json={"pixels": [1] * 9 + [0] * 775}).status_code == 200
