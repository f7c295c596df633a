"""The threads that run graphs take denormal numbers as zero, and only they do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from service.engine import Engine, denormals
from tests.service.engine.fakes import FakeSession, fake_model


def half_of_the_smallest() -> float:
    """Half of the smallest number that is not denormal, where this is called."""
    return float((np.full(8, np.finfo(np.float32).tiny) * np.float32(0.5))[0])


class Computing(FakeSession):
    """Computes what is denormal where the engine runs it."""

    def __init__(self) -> None:
        super().__init__()
        self.halves: list[float] = []

    def run(self, outputs: Sequence[str], feeds: dict[str, np.ndarray], _: object) -> list[np.ndarray]:
        self.halves.append(half_of_the_smallest())
        return super().run(outputs, feeds, _)


def test_lanes_flush_denormals_and_other_threads_do_not(small_store: Path) -> None:
    session = Computing()
    inputs = {"pixels": np.ones((1, 4), np.float32), "lengths": np.array([4], np.int32)}

    async def main() -> None:
        async with Engine(small_store) as engine:
            await engine.infer(fake_model(session=session), inputs, ["h_next"])

    asyncio.run(main())
    assert half_of_the_smallest() > 0
    with ThreadPoolExecutor(1) as other:
        known = other.submit(denormals.flush).result()
        assert (other.submit(half_of_the_smallest).result() == 0) is known
    assert [half == 0 for half in session.halves] == [known]
