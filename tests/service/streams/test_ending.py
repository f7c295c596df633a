"""Servers that stop, and models that fail or are replaced, while streams are live."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service import Engine, Settings
from service.streams import endpoint
from service.streams.endpoint import Streams
from service.streams.registry import Kind, Reason
from tests.service.stream_client import StreamClient
from tests.service.streams.heard import closing_lines

LOUD = np.full(800, 32_000, "<i2").tobytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_tells_the_clients(serve: Any, small_store: Path, number: signal.Signals) -> None:
    with (
        serve("--store", small_store) as server,
        StreamClient(server.address) as speaking,
        StreamClient(server.address) as fresh,
    ):
        stream = speaking.start()["stream"]
        speaking.send(bytes(1600))
        token = speaking.message()["resume"]
        server.process.send_signal(number)
        error, closed = speaking.error()
        assert (error["code"], error["resume"], closed) == ("shutting_down", token, 1001)
        error, closed = fresh.error()
        assert (error["code"], closed) == ("shutting_down", 1001)
        assert server.process.wait(timeout=60) == 0
        assert all(line["level"] == "info" for line in server.log())
        (line,) = [line for line in server.log() if line["event"] == "stream"]
        assert (line["stream"], line["reason"]) == (stream, "shutdown")


def test_stopping_does_not_wait_for_the_deaf(serve: Any, small_store: Path) -> None:
    with (
        serve("--store", small_store, "--shutdown-seconds", 10**6) as server,
        StreamClient(server.address, receive_buffer=4096) as client,
    ):
        client.start(probabilities=True)
        client.socket.settimeout(0.3)
        with suppress(TimeoutError):
            while True:
                client.send(bytes(60_000))
        assert server.stop() == 0


def test_a_server_that_was_started_anew(live: Any, serve: Any, small_store: Path) -> None:
    with StreamClient(live.address) as client:
        token = client.start()["resume"]
    with serve("--store", small_store) as server, StreamClient(server.address) as client:
        client.send({"type": "resume", "token": token})
        error, closed = client.error()
        assert (error["code"], closed) == ("unknown_stream", 4404)
        assert "was another server's or this one's before it was started anew" in error["detail"]


def test_a_model_that_fails_ends_the_stream(
    serve: Any, tmp_path: Path, write_frames_artifact: Callable[..., Path]
) -> None:
    write_frames_artifact(tmp_path, change=lambda card: card.update(hop_length=40))  # the graph's is 80
    with serve("--store", tmp_path) as server:
        with StreamClient(server.address) as client:
            started = client.start()
            client.send(bytes(160))
            error, closed = client.error()
        assert (error["code"], closed) == ("failed", 1011)
        assert error["detail"] == "the server failed at this stream; its log has the details"
        assert "resume" not in error
        lines = closing_lines(server, started["stream"])
        assert [line["event"] for line in lines[:2]] == ["inference failed", "stream"]
        assert "answered 1 frames for 2 hops" in lines[0]["exception"]
        assert lines[1]["reason"] == "failed"


class HeldStream:
    """A stream of whose audio nothing is heard until `release`, on an ASGI server that is none."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[Any] = []
        self.streams = Streams(engine, Settings())
        dispatch, engine._dispatch = engine._dispatch, lambda: None  # type: ignore[method-assign]

        def release() -> None:
            engine._dispatch = dispatch  # type: ignore[method-assign]
            dispatch()

        self.release = release

    async def begin(self, *chunks: bytes) -> asyncio.Task[None]:
        """Send these, and wait until they are taken."""
        start = json.dumps({"type": "start", "sample_rate": 8000, "encoding": "pcm16"})
        self.incoming.put_nowait({"type": "websocket.connect"})
        self.incoming.put_nowait({"type": "websocket.receive", "text": start})
        task = asyncio.create_task(self.streams({}, self.incoming.get, self.send))
        self.feed(*chunks)
        while not (self.incoming.empty() and len(self.sent) == 2):
            await asyncio.sleep(0)
        return task

    def feed(self, *chunks: bytes) -> None:
        for chunk in chunks:
            self.incoming.put_nowait({"type": "websocket.receive", "bytes": chunk})

    async def send(self, message: Any) -> None:
        self.sent.append(json.loads(message["text"]) if "text" in message else message)


def test_what_was_taken_is_answered_before_the_end(small_store: Path) -> None:
    async def main() -> list[Any]:
        async with Engine(small_store, lanes=1) as engine:
            stream = HeldStream(engine)
            carrying = await stream.begin(bytes(1600), bytes(3200), bytes(1700))
            ending = asyncio.create_task(stream.streams.shutdown())
            await asyncio.sleep(0)
            stream.feed(bytes(1600))  # too late
            await asyncio.sleep(0)
            assert len(stream.sent) == 2
            stream.release()
            await asyncio.wait([ending, carrying])
            assert stream.streams.registry.ended == {(Kind.LIVE, Reason.SHUTDOWN): 1}
            return stream.sent

    accepted, started, *frames, error, closed = asyncio.run(main())
    assert (accepted["type"], started["type"]) == ("websocket.accept", "started")
    assert sum(len(message["labels"]) for message in frames) == 40
    assert (error["code"], error["resume"]) == ("shutting_down", frames[-1]["resume"])
    assert closed == {"type": "websocket.close", "code": 1001, "reason": "shutting_down"}


def test_the_end_does_not_wait_for_ever(small_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_DRAIN_SECONDS", 0.05)

    async def main() -> list[Any]:
        async with Engine(small_store, lanes=1) as engine:
            stream = HeldStream(engine)
            carrying = await stream.begin(bytes(1600))
            await stream.streams.shutdown()
            assert carrying.done()
            return stream.sent

    *_, error, _ = asyncio.run(main())
    assert error["code"] == "shutting_down"


def test_a_stream_keeps_to_its_version_whatever_the_store_gets(
    serve: Any, tmp_path: Path, write_frames_artifact: Callable[..., Path]
) -> None:
    old, new = ["quiet", "soft", "loud"], ["quiet", "gentle", "noisy"]
    write_frames_artifact(tmp_path / "store")
    with serve("--store", tmp_path / "store") as server:
        with StreamClient(server.address) as client:
            client.start()
            client.send(bytes(1600))
            token = client.message()["resume"]
            folder = write_frames_artifact(
                tmp_path / "new", version="2", change=lambda card: card.update(labels=new)
            )
            shutil.copytree(folder, tmp_path / "store" / "frames" / "2")
            deadline = time.monotonic() + 60
            while server.client.get("/v2/models/frames/versions/2/ready").status_code != 200:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            for version, classes in (("2", new), ("1", old)):
                with StreamClient(server.address) as other:
                    started = other.start(version=version)
                assert (started["version"], started["classes"]) == (version, classes)
            with StreamClient(server.address) as other:
                assert other.start()["version"] == "2"  # the newest
            shutil.rmtree(tmp_path / "store" / "frames" / "1")
            while server.client.get("/v2/models/frames/versions/1/ready").status_code == 200:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            client.send(LOUD)
            assert client.message()["labels"] == ["loud"] * 10
        with StreamClient(server.address) as client:  # it comes back to the same
            client.send({"type": "resume", "token": token})
            client.message()
            client.send(LOUD)
            client.send({"type": "finish"})
            *_, result = client.rest()[0]
        assert result["utterance"]["label"] == "loud"
        with StreamClient(server.address) as client:
            error = client.start(version="1")
        assert error["code"] == "unknown_model"
