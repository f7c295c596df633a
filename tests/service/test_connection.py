"""A connection against a server that breaks its word; test_streams.py has those on real sockets."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from service import Engine, Settings
from service.streams import Streams

START = {"type": "websocket.receive", "text": '{"type": "start", "sample_rate": 8000, "encoding": "pcm16"}'}


def run(store: Path, received: list[dict[str, Any] | Exception], broken: str = "") -> list[dict[str, Any]]:
    """What the endpoint sends to a server from which it receives these; sending a `broken` type raises."""
    sent: list[dict[str, Any]] = []
    incoming = iter([{"type": "websocket.connect"}, *received])

    async def receive() -> dict[str, Any]:
        message = next(incoming)
        if isinstance(message, Exception):
            raise message
        return message

    async def send(message: Any) -> None:
        if message["type"] == broken:
            raise OSError("gone")
        sent.append(message)

    async def main() -> None:
        async with Engine(store, lanes=1) as engine:
            streams = Streams(engine, Settings(store=store))
            await streams({}, receive, send)
            await streams.shutdown()

    asyncio.run(main())
    return sent


def test_a_server_that_fails(small_store: Path) -> None:
    accepted, started, failed, closed = run(small_store, [START, ValueError("a bug")])
    assert accepted["type"] == "websocket.accept"
    assert json.loads(started["text"])["type"] == "started"
    assert json.loads(failed["text"])["code"] == "failed"
    assert closed == {"type": "websocket.close", "code": 1011, "reason": "failed"}


@pytest.mark.parametrize(
    ("broken", "sent"),
    [
        ("websocket.accept", []),
        ("websocket.send", ["accept"]),
        ("websocket.close", ["accept", "send", "send"]),
        ("", ["accept", "send", "send", "close"]),
    ],
)
def test_a_client_that_leaves(small_store: Path, broken: str, sent: list[str]) -> None:
    finish = {"type": "websocket.receive", "text": '{"type": "finish"}'}
    types = [message["type"] for message in run(small_store, [START, finish], broken)]
    assert types == [f"websocket.{name}" for name in sent]


def test_nothing_is_sent_to_a_client_that_has_left(small_store: Path) -> None:
    sent = run(small_store, [START, {"type": "websocket.disconnect", "code": 1006}])
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send"]
