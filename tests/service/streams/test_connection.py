"""A connection against a server that breaks its word; test_streams.py has those on real sockets."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from service import Engine, Settings
from service.streams.endpoint import Streams

START = {"type": "websocket.receive", "text": '{"type": "start", "sample_rate": 8000, "encoding": "pcm16"}'}


def run(store: Path, received: list[dict[str, Any] | Exception], broken: str = "") -> list[dict[str, Any]]:
    """What the endpoint sends to a server from which it receives these; sending a `broken` type raises."""
    sent: list[dict[str, Any]] = []
    incoming = iter([{"type": "websocket.connect"}, *received])

    async def receive() -> dict[str, Any]:
        message = next(incoming, {"type": "websocket.disconnect", "code": 1006})
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


def test_a_message_on_its_way_when_the_stream_is_taken_over_is_sent_again(small_store: Path) -> None:
    """The old connection's writer must not count it as sent to the new one."""
    audio = {"type": "websocket.receive", "bytes": bytes(1600)}

    class Client:
        def __init__(self) -> None:
            self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
            self.sent: list[dict[str, Any]] = []
            self.hold, self.held, self.free = "", asyncio.Event(), asyncio.Event()

        async def send(self, message: Any) -> None:
            text = message.get("text", "{}")
            if self.hold and self.hold in text:
                self.held.set()
                await self.free.wait()
            self.sent.append(json.loads(text) if "text" in message else {"type": message["type"]})

        def put(self, *messages: dict[str, Any]) -> None:
            for message in messages:
                self.incoming.put_nowait(message)

    async def main() -> list[dict[str, Any]]:
        async with Engine(small_store, lanes=1) as engine:
            streams = Streams(engine, Settings(store=small_store))
            first, second = Client(), Client()
            first.hold = second.hold = '"type":"frames"'
            first.put({"type": "websocket.connect"}, START, audio)
            carrying = asyncio.create_task(streams({}, first.incoming.get, first.send))
            await first.held.wait()
            token = first.sent[1]["resume"]
            resume = {"type": "websocket.receive", "text": json.dumps({"type": "resume", "token": token})}
            finish = {"type": "websocket.receive", "text": '{"type": "finish"}'}
            second.put({"type": "websocket.connect"})
            resuming = asyncio.create_task(streams({}, second.incoming.get, second.send))
            while not second.sent:  # accepted
                await asyncio.sleep(0)
            # in one turn of the loop: the second takes over, and then the first finds its message sent
            second.put(resume)
            first.free.set()
            await carrying
            await second.held.wait()
            second.put(finish)
            second.free.set()
            await resuming
            await streams.shutdown()
            return second.sent

    types = [message["type"] for message in asyncio.run(main())]
    assert types == ["websocket.accept", "resumed", "frames", "segment", "result", "websocket.close"]
