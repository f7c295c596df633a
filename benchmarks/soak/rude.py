"""Clients that leave, that send what is none of the server's business, or that take their time."""

from __future__ import annotations

import asyncio

import orjson

from benchmarks.soak import good
from benchmarks.soak.http import ClosedError, Connection, refused, request
from benchmarks.soak.tally import ViolationError
from benchmarks.soak.world import World

MAX_BODY_BYTES = 2_000_000  # of the server
_PIECES = 20
_SLOW_IMAGES = 4  # each of 7840 numbers of trace: more than the system's buffers hold
_RECEIVE_BUFFER = 4096
LEFT = "disconnected"


async def leave_while_sending(world: World) -> str:
    """Lose the connection in the middle of the request."""
    whole = _any_request(world)
    async with Connection.to(world.address) as connection:
        await connection.send(whole[: world.random.randrange(1, len(whole))])
        connection.reset()
    return LEFT


async def leave_while_waiting(world: World) -> str:
    """Lose the connection, or close it, before the answer."""
    async with Connection.to(world.address) as connection:
        await connection.send(_any_request(world))
        await asyncio.sleep(world.random.choice((0.0, 0.001, 0.01)))
        if world.random.random() < 0.5:
            connection.reset()
    return LEFT


async def leave_while_reading(world: World) -> str:
    """Lose the connection in the middle of a long answer."""
    body = good.digits_body(world, world.digits(_SLOW_IMAGES))
    async with Connection.to(world.address, _RECEIVE_BUFFER) as connection:
        await connection.send(request("POST", f"{good.DIGITS}?trace=1", body))
        await connection.reader.read(1000)
        connection.reset()
    return LEFT


async def send_slowly(world: World) -> str:
    """A good request, some bytes at a time."""
    numbers = world.digits(1)
    whole = request("POST", good.DIGITS, good.digits_body(world, numbers))
    size = -(-len(whole) // _PIECES)
    async with Connection.to(world.address) as connection:
        for start in range(0, len(whole), size):
            await connection.send(whole[start : start + size])
            await asyncio.sleep(world.unhurried / _PIECES)
        answer = await connection.answer()
    if answer.status != 200:
        return refused(answer, good.DIGITS, 429)
    return good.check_digits(world, answer, numbers)


async def read_slowly(world: World) -> str:
    """A long answer, some bytes at a time."""
    numbers = world.digits(_SLOW_IMAGES)
    path = f"{good.DIGITS}?trace=1"
    async with Connection.to(world.address, _RECEIVE_BUFFER) as connection:
        await connection.send(request("POST", path, good.digits_body(world, numbers)))
        for _ in range(_PIECES):  # the rest stays where it is meanwhile
            await asyncio.sleep(world.unhurried / _PIECES)
        answer = await connection.answer()
    if answer.status != 200:
        return refused(answer, good.DIGITS, 429)
    document = answer.json()
    traces = [prediction["trace"]["probabilities"] for prediction in document["predictions"]]
    world.oracle.check_trace(document["version"], numbers, traces)
    return good.OK


async def no_http(world: World) -> str:
    """Random bytes."""
    async with Connection.to(world.address) as connection:
        await connection.send(world.random.randbytes(world.random.randint(20, 2000)) + b"\r\n\r\n")
        try:
            answer = await connection.answer()
        except ClosedError:
            return "closed"
    if answer.status != 400:
        raise ViolationError(f"what is not HTTP is answered with {answer.status}; expected 400")
    return str(answer.status)


async def nonsense(world: World) -> str:
    """HTTP that asks for what cannot be."""
    method, path, body, headers, status = world.random.choice(_NONSENSE)
    async with Connection.to(world.address) as connection:
        answer = await connection.ask(request(method, path, body, headers))
    return refused(answer, path, status)


def _any_request(world: World) -> bytes:
    numbers = world.digits(world.random.choice((1, 16)))
    if world.random.random() < 0.5:
        return request("POST", good.DIGITS, good.digits_body(world, numbers))
    return request("POST", good.INFER, *good.infer_body(world, numbers))


def _inputs(**changed: object) -> bytes:
    tensor = {"name": "pixels", "datatype": "FP32", "shape": [1, 4], "data": [0, 0, 1, 1]}
    return orjson.dumps({"inputs": [tensor | changed]})


_TOO_LARGE = bytes(MAX_BODY_BYTES + 1)
_NONSENSE: list[tuple[str, str, bytes, dict[str, str], int]] = [
    ("POST", good.DIGITS, b"{" * 50, {}, 400),
    ("POST", good.DIGITS, b'{"pixels": [[1, 2]]}', {}, 422),
    ("POST", good.DIGITS, b'{"pixels": "all of them"}', {}, 422),
    ("POST", good.DIGITS, b"\x89PNG\r\n\x1a\n" + b"x" * 500, {"Content-Type": "image/png"}, 422),
    ("POST", good.DIGITS, b"x", {"Content-Type": "text/html"}, 415),
    ("POST", good.DIGITS, b"x", {"X-Request-Timeout": "soon"}, 400),
    ("POST", good.FRAMES, b"RIFF" + b"x" * 500, {}, 422),
    ("POST", good.FRAMES, b"", {"Content-Type": "audio/wav"}, 422),
    ("POST", good.DIGITS, _TOO_LARGE, {}, 413),
    ("POST", good.INFER, _TOO_LARGE, {}, 413),
    ("POST", good.INFER, b"[]", {}, 400),
    ("POST", good.INFER, b'{"inputs": [', {}, 400),
    ("POST", good.INFER, _inputs(datatype="FP64"), {}, 400),
    ("POST", good.INFER, _inputs(shape=[1, 5]), {}, 400),
    ("POST", good.INFER, _inputs(shape=[2**40, 2**40]), {}, 400),
    ("POST", good.INFER, _inputs(data=[0, 0, 1, None]), {}, 400),
    ("POST", good.INFER, _inputs(name="waveform"), {}, 400),
    ("POST", good.INFER, b"{}", {"Inference-Header-Content-Length": "7"}, 400),
    ("POST", good.INFER, b"{}", {"Content-Encoding": "gzip"}, 415),
    ("POST", "/v2/models/letters/infer", _inputs(), {}, 404),
    ("POST", "/v2/models/digits/versions/x/infer", _inputs(), {}, 404),
    ("GET", good.INFER, b"", {}, 405),
    ("GET", "/v1/digits/../../etc/passwd", b"", {}, 404),
    ("DELETE", "/v2/models/digits", b"", {}, 405),
    ("POST", "/v2/repository/models/letters/load", b"", {}, 404),
    ("POST", "/v2/repository/index", b"?", {}, 400),
]
