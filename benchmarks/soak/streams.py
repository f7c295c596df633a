"""Clients of live streams: good ones, some of which lose their connection, and some that don't come back."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from benchmarks.soak.tally import ViolationError
from benchmarks.soak.world import World

_LONGEST_CHUNK = 8000  # bytes
_READING_SECONDS = 0.2  # at most, before a connection is cut


class _Client:
    """Has one recording heard, on one connection after the other.

    Args:
        world: which has it.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = world.random
        self._number = world.recording()
        self._audio = world.oracle.recordings[self._number].samples.astype("<i2").tobytes()
        self._token = ""
        self._version = ""
        self._heard: list[list[float]] = []
        self._done = False

    async def cut(self) -> None:
        """Send some of what is left, or all and `finish`, read some, and lose the connection."""
        async with self._connect() as socket:
            at, finished = await self._open(socket)
            if not finished:
                whole = self._random.random() < 0.25
                await self._send(
                    socket, at, len(self._audio) if whole else self._random.randint(at, len(self._audio))
                )
                if whole:
                    await socket.send('{"type": "finish"}')
            with suppress(TimeoutError):
                async with asyncio.timeout(self._random.uniform(0.0, _READING_SECONDS)):
                    await self._read(socket)
            socket.transport.abort()

    async def finish(self) -> None:
        """Send what is left, read on until the result, and check it all.

        Raises:
            ViolationError
        """
        async with self._connect() as socket:
            at, finished = await self._open(socket)
            if not finished:
                await self._send(socket, at, len(self._audio))
                await socket.send('{"type": "finish"}')
            await self._read(socket)
        self._world.oracle.check_frames(self._version, self._number, self._heard, streamed=True)

    def _connect(self) -> connect:
        host, port = self._world.address
        uri = f"ws://{host}:{port}/v1/frames/stream"
        return connect(uri, compression=None, max_size=None, ping_interval=None, proxy=None)

    async def _open(self, socket: ClientConnection) -> tuple[int, bool]:
        """Begin the stream, or go on with it: the bytes that the server has, and whether it has them all."""
        if self._token:
            await socket.send(orjson.dumps({"type": "resume", "token": self._token}).decode())
            resumed = await self._receive(socket, "resumed")
            return 2 * int(resumed["samples"]), bool(resumed["finished"])
        start = {"type": "start", "encoding": "pcm16", "probabilities": True}
        start["sample_rate"] = self._world.oracle.sample_rate
        await socket.send(orjson.dumps(start).decode())
        started = await self._receive(socket, "started")
        self._version, self._token = started["version"], started["resume"]
        return 0, False

    async def _send(self, socket: ClientConnection, at: int, stop: int) -> None:
        """Audio, in pieces that need not hold whole samples."""
        while at < stop:
            size = min(self._random.randint(1, _LONGEST_CHUNK), stop - at)
            await socket.send(self._audio[at : at + size])
            at += size

    async def _read(self, socket: ClientConnection) -> None:
        """All messages until the result."""
        while not self._done:
            message = await self._receive(socket, "frames", "segment", "result")
            if message["type"] == "frames":
                if message["start"] != len(self._heard):
                    raise ViolationError(f"frame {message['start']} was told after {len(self._heard)} frames")
                self._heard += message["posteriors"]
            elif message["type"] == "result":
                self._done = True
                if message["frames"] != len(self._heard):
                    raise ViolationError(f"{message['frames']} frames in all, {len(self._heard)} were told")
            self._token = message["resume"]

    async def _receive(self, socket: ClientConnection, *expected: str) -> dict[str, Any]:
        try:
            message: dict[str, Any] = orjson.loads(await socket.recv())
        except ConnectionClosed as error:
            raise ViolationError(f"the server closed a stream: {error}") from error
        if message["type"] not in expected:
            raise ViolationError(f"the server said {message}; expected {' or '.join(expected)}")
        return message


async def stream(world: World) -> str:
    """A recording on one connection."""
    await _Client(world).finish()
    return "result"


async def stream_resumed(world: World) -> str:
    """A recording on several, each of which is lost at some place."""
    client = _Client(world)
    for _ in range(world.random.randint(1, 3)):
        await client.cut()
    await client.finish()
    return "result"


async def stream_left(world: World) -> str:
    """A recording that nobody comes back for."""
    await _Client(world).cut()
    return "disconnected"
