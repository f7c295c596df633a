"""A recording is admitted or refused as a whole, before anything of it is computed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI, Request, Response
from starlette.types import Message

from service.engine import DeadlineExceededError, Engine, Limits, OverloadedError
from service.frames import routes as frames
from service.http.decoders import Decoders
from service.http.refusals import Refusals
from service.settings import Settings
from tests.service.sounds import encode
from tests.service.waiting import keeps_less

RECORDING = encode(np.zeros(320_000))  # four chunks
PATIENCE = 60.0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, write_frames_artifact: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("store")
    write_frames_artifact(folder)
    return folder


async def ask(app: FastAPI, seconds: float = PATIENCE) -> Response:
    """Send the recording."""

    async def receive() -> Message:
        if received:
            await asyncio.sleep(60)
        received.append(True)
        return {"type": "http.request", "body": bytes(memoryview(RECORDING))}

    received: list[bool] = []
    scope = {
        "type": "http",
        "headers": [],
        "momentum.deadline": asyncio.get_running_loop().time() + seconds,
        "app": app,
    }
    return await frames.hear(Request(scope, receive), "json")


def with_engine(store: Path, check: Callable[[FastAPI, Engine], Awaitable[None]]) -> None:
    """Run a check with an application and the engine of that."""

    async def main() -> None:
        app = FastAPI()
        app.state.settings = Settings()
        with Decoders(1, Limits(), Refusals()) as app.state.decoders:
            async with Engine(store, lanes=1) as engine:
                app.state.engine = engine
                await asyncio.wait_for(check(app, engine), 60)

    asyncio.run(main())


@contextmanager
def full_after_the_first(engine: Engine) -> Iterator[list[float]]:
    """The deadlines of what is asked for admission, which nothing gets but the first."""
    asked: list[float] = []
    admit = engine.scheduler._admit

    def admit_one(request: Any, now: float) -> None:
        asked.append(request.deadline)
        if len(asked) > 1:
            raise OverloadedError("full", 1.0)
        admit(request, now)

    engine.scheduler._admit = admit_one  # type: ignore[method-assign]
    yield asked
    engine.scheduler._admit = admit  # type: ignore[method-assign]


def test_a_recording_that_was_admitted_is_heard_to_its_end(store: Path) -> None:
    async def check(app: FastAPI, engine: Engine) -> None:
        latest = asyncio.get_running_loop().time() + PATIENCE
        with full_after_the_first(engine) as asked:
            assert (await ask(app)).status_code == 200
        (begins,) = asked
        assert begins < latest  # there has to be time for the rest

    with_engine(store, check)


def test_a_recording_for_which_there_is_no_time_is_not_begun(store: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(frames, "_seconds", lambda *_: 30.0)

    async def check(app: FastAPI, engine: Engine) -> None:
        with pytest.raises(DeadlineExceededError):
            await ask(app)
        assert engine.statistics.of("frames", "1").rows == 0

    with_engine(store, check)


def test_a_recording_that_waits_is_kept_as_it_is_heard_only(store: Path) -> None:
    async def check(app: FastAPI, engine: Engine) -> None:
        await ask(app)  # what is made once is there
        assert await keeps_less(engine, lambda: ask(app), 4 * 320_000 + 100_000)

    with_engine(store, check)
