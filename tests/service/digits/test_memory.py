"""Of a request that waits, only its pixels are kept: the engine's limits count no more."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fastapi import FastAPI, Request, Response
from starlette.types import Message

from service.digits.routes import classify
from service.engine import Engine, Limits
from service.http.decoders import Decoders
from service.http.refusals import Refusals
from service.settings import Settings
from tests.service.waiting import keeps_less


def body() -> bytes:
    """An image, and much space behind it."""
    return b'{"pixels": %s}' % str([0, 1] * 392).encode() + b" " * 2**20


def test_a_request_that_waits_keeps_its_pixels_only(small_store: Path) -> None:
    received: list[bool] = []

    async def receive() -> Message:
        if received:
            await asyncio.sleep(60)
        received.append(True)
        return {"type": "http.request", "body": body()}

    async def ask(app: FastAPI) -> Response:
        scope = {
            "type": "http",
            "headers": [(b"content-type", b"application/json")],
            "query_string": b"",
            "momentum.deadline": asyncio.get_running_loop().time() + 60,
            "app": app,
        }
        return await classify(Request(scope, receive))

    async def main() -> None:
        app = FastAPI()
        app.state.settings = Settings()
        with Decoders(1, Limits(), Refusals()) as app.state.decoders:
            async with Engine(small_store, lanes=1) as engine:
                app.state.engine = engine
                await ask(app)  # what is made once is there
                received.clear()
                assert await keeps_less(engine, lambda: ask(app), 100_000)

    asyncio.run(main())
