"""What needs no cluster: which deployment answers what, and who may use a replica's port."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from service.ray import leases, paths
from service.ray.leases import Leases

MODELS = ["digits", "frames", "letters"]


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/digits", "digits"),
        ("/v1/frames", "frames"),
        ("/v1/frames/stream", "frames"),
        ("/v1/streams/5e2f/state", "frames"),
        ("/v2/models/letters/versions/2/infer", "letters"),
        ("/v2/models/digits", "digits"),
        ("/v2/models/unknown", "digits"),
        ("/v2/models/", "digits"),
        ("/", "frames"),
    ],
)
def test_the_model_that_answers(path: str, model: str) -> None:
    assert paths.model_of(path, MODELS) == model


def test_a_store_without_the_model() -> None:
    assert paths.model_of("/v1/frames", ["letters"]) == "letters"


def test_the_stream_in_a_path() -> None:
    assert paths.stream_of("/v1/streams/5e2f/state") == "5e2f"
    assert paths.stream_of("/v1/frames/stream") is None


async def _status(app: Leases, key: str) -> int:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(leases.HEADER.lower().encode(), key.encode()), (b"accept", b"*/*")]
    await app({"type": "http", "path": "/", "method": "GET", "headers": headers}, receive, send)
    return int(sent[0]["status"])


def test_a_lease_is_good_for_one_request() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["headers"] == [(b"accept", b"*/*")]
        await PlainTextResponse("yes")(scope, receive, send)

    async def use() -> None:
        port = Leases(app, "127.0.0.1:1")
        lease = port.grant()
        assert lease.address == "127.0.0.1:1"
        ended = port.ended(lease)
        assert await _status(port, "another") == 403
        assert not ended.done()
        assert await _status(port, lease.key) == 200
        await ended
        assert await _status(port, lease.key) == 403

    asyncio.run(use())


def test_a_lease_that_is_not_used_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_UNUSED_SECONDS", 0.01)

    async def app(*_: Any) -> None:
        raise AssertionError

    async def wait() -> None:
        port = Leases(app, "127.0.0.1:1")
        lease = port.grant()
        await asyncio.wait_for(port.ended(lease), 10)
        assert await _status(port, lease.key) == 403

    asyncio.run(wait())
