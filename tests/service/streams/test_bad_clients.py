"""Clients that do not read, flood, or send garbage, and many at once."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import websockets
from websockets.frames import Frame, Opcode

from tests.service import small_frames
from tests.service.faults.load import wait_until
from tests.service.stream_client import CutError, StreamClient
from tests.service.streams.heard import CHUNK, closing_lines, pcm


def test_a_client_that_does_not_read_is_cut_off(hasty: Any) -> None:
    audio = bytes(60_000)
    with StreamClient(hasty.address, receive_buffer=4096) as client:
        stream = client.start(probabilities=True)["stream"]
        client.socket.settimeout(30)
        sent = 0
        with suppress(OSError):  # a client that does not read can't know why it can't write any more
            while True:
                client.send(audio)
                sent += len(audio)
        assert sent < 200 * len(audio)
    lines = closing_lines(hasty, stream)
    assert "not_reading" in [line.get("outcome") for line in lines]


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        (b"Cookie: " + b"x" * 9000 + b"\r\n", "read 9010 bytes, expected no more than 8192 bytes"),
        (b"A: b\r\n" * 200, "expected no more than 128 headers"),
        (b"Content-Length: 2\r\n", "unsupported request body"),
        (b"Transfer-Encoding: chunked\r\n", "transfer codings aren't supported"),
    ],
)
def test_a_handshake_that_cannot_be_read_is_refused(live: Any, lines: bytes, wrong: str) -> None:
    head = (
        b"GET /v1/frames/stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    )
    with socket.create_connection(live.address, 30) as connection:
        connection.sendall(head + lines + b"\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    told, _, body = answer.partition(b"\r\n\r\n")
    assert told.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nx-content-type-options: nosniff" in told
    assert json.loads(body)["detail"] == f"this is no WebSocket's handshake: {wrong}"


def test_pings_without_end_are_cut_off(live: Any) -> None:
    """Their pongs must not pile up in the server for a client that does not read them."""
    ping = Frame(Opcode.PING, b"x" * 125)
    with StreamClient(live.address, receive_buffer=4096) as client:
        flood = ping.serialize(mask=True) * (2**26 // 131)
        with pytest.raises(OSError, match=r"reset|pipe"):
            client.socket.sendall(flood)


def test_a_slow_reader_gets_everything(connect: Callable[[], StreamClient]) -> None:
    with connect() as client:
        client.start(probabilities=True)
        with ThreadPoolExecutor(1) as writer:
            writer.submit(lambda: [client.send(bytes(CHUNK)) for _ in range(20)])
            time.sleep(0.5)
            labels = 0
            while labels < 2500:
                labels += len(client.message()["labels"])
        client.send({"type": "finish"})
        assert client.rest()[0][-1]["frames"] == 2500


def test_many_at_once(live: Any) -> None:
    samples = [pcm(4000, seed) for seed in range(100)]

    async def one(audio: np.ndarray, rng: random.Random) -> list[dict[str, Any]]:
        raw = audio.tobytes()
        url = f"ws://{live.address[0]}:{live.address[1]}/v1/frames/stream"
        async with websockets.connect(url, compression=None, open_timeout=60) as socket:
            await socket.send(json.dumps({"type": "start", "sample_rate": 8000, "encoding": "pcm16"}))
            messages = [json.loads(await socket.recv())]
            start = 0
            while start < len(raw):
                size = rng.randint(1, 3000)
                await socket.send(raw[start : start + size])
                start += size
                await asyncio.sleep(rng.uniform(0, 0.01))
            await socket.send('{"type": "finish"}')
            messages += [json.loads(message) async for message in socket]
            assert socket.close_code == 1000
        return messages[1:]

    async def main() -> list[list[dict[str, Any]]]:
        return await asyncio.gather(*(one(audio, random.Random(0)) for audio in samples))  # noqa: S311

    for audio, messages in zip(samples, asyncio.run(main()), strict=True):
        whole = small_frames.expected(audio / 32768)
        labels = [label for message in messages for label in message.get("labels", [])]
        assert labels == [small_frames.LABELS[index] for index in whole.argmax(axis=1)]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff" * 200,
        b"\x82\x05hello",  # not masked
        b"\x81\x82\0\0\0\0\xff\xfe",  # text that is not UTF-8
        b"\x88\x81\0\0\0\0\x03",  # a close with half a code
        b"\x83\x80\0\0\0\0",  # an unknown opcode
        b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",  # 2^63 bytes to come
        b"\x89\xff" + b"\0" * 300,  # a ping that is too long
    ],
)
def test_garbage_harms_nobody_else(live: Any, connect: Callable[[], StreamClient], garbage: bytes) -> None:
    with connect() as client:
        stream = client.start()["stream"]
        client.send(bytes(1600))
        client.socket.sendall(garbage)
        with suppress(CutError):
            client.rest()
    wait_until(
        lambda: [line for line in live.log() if line.get("stream") == stream and "outcome" in line],
        "told in the log",
    )
    with connect() as client:
        assert client.start()["type"] == "started"


def test_pieces_of_a_handshake(live: Any) -> None:
    with socket.create_connection(live.address) as connection:
        connection.sendall(b"GET /v1/frames/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n")
    with socket.create_connection(live.address) as connection:
        connection.sendall(
            b"GET /v1/frames/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
    assert live.client.get("/v2/health/live").status_code == 200


def test_plain_http_is_told_to_upgrade(live: Any) -> None:
    response = live.client.get("/v1/frames/stream")
    assert response.status_code == 426
    assert response.headers["upgrade"] == "websocket"
    assert response.json()["detail"] == "/v1/frames/stream speaks WebSocket only"
