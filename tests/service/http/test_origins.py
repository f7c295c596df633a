"""Which pages may open WebSockets, to which browsers apply no CORS, and what a refusal leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect


def open_stream(server: Any, origin: str | None, path: str = "/v1/frames/stream") -> None:
    """Open a WebSocket as a page of that origin would, or as none."""
    sent = None if origin is None else {"Origin": origin}
    with connect(server.url.replace("http", "ws") + path, additional_headers=sent):
        pass


def check_refused(server: Any, origin: str) -> None:
    """A problem document says why."""
    with pytest.raises(InvalidStatus) as refused:
        open_stream(server, origin)
    response = refused.value.response
    assert (response.status_code, response.headers["Content-Type"]) == (403, "application/problem+json")
    assert json.loads(response.body)["detail"] == "the page that asks is of another origin"


def test_pages_of_elsewhere_open_no_streams(small_server: Any) -> None:
    host, port = small_server.address
    for origin in (None, small_server.url, small_server.url.upper(), f"https://{host}:{port}"):
        open_stream(small_server, origin)
    for origin in (
        "https://elsewhere.example",
        f"http://{host}",
        f"http://{host}:{port}.example",
        f"http://{port}",
        "null",
        "",
        "http://",
    ):
        check_refused(small_server, origin)


def test_pages_that_may_open_streams(serve: Any, small_store: Path) -> None:
    with serve("--store", small_store, "--cors-origins", "https://a.example,http://b.example:81") as server:
        for origin in ("https://a.example", "http://b.example:81", server.url):
            open_stream(server, origin)
        for origin in ("http://a.example", "http://b.example", "https://a.example.org"):
            check_refused(server, origin)
    with serve("--store", small_store, "--cors-origins", "*") as server:
        open_stream(server, "https://a.example")


def test_a_refused_handshake_is_no_error_of_the_server(serve: Any, small_store: Path) -> None:
    with serve("--store", small_store) as server:
        check_refused(server, "https://elsewhere.example")
        with pytest.raises(InvalidStatus):
            open_stream(server, None, "/nothing")  # which is refused without a line
        open_stream(server, None)
        assert server.stop() == 0
        lines = server.log()
    assert [line["status"] for line in lines if line["event"] == "request"] == [403]
    assert {line["level"] for line in lines} == {"info"}
