"""Asking an engine that runs, and a session that can be held."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from service import Engine
from service.engine import Model
from tests.service.engine.fakes import FakeSession


def request(*sums: float, size: int = 784) -> dict[str, np.ndarray]:
    pixels = np.zeros((len(sums), size), np.float32)
    pixels[:, 0] = sums
    return {"pixels": pixels, "lengths": np.full(len(sums), size, np.int32)}


class Gate(FakeSession):
    """A session that runs when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.started = threading.Semaphore(0)
        self.open = threading.Event()

    def run(self, outputs: Sequence[str], feeds: dict[str, np.ndarray], options: object) -> list[np.ndarray]:
        self.started.release()
        assert self.open.wait(60)
        return super().run(outputs, feeds, options)


def ask(running: Engine, model: Model, *sums: float, **options: Any) -> asyncio.Task[dict[str, np.ndarray]]:
    return asyncio.create_task(running.infer(model, request(*sums), ["h_next"], **options))


def answers(tasks: Sequence[asyncio.Task[dict[str, np.ndarray]]]) -> list[list[float]]:
    return [task.result()["h_next"][:, 0].tolist() for task in tasks]


def kinds(tasks: Sequence[asyncio.Task[Any]]) -> list[type[BaseException]]:
    return [type(task.exception()) for task in tasks]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what other threads bring about."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)
