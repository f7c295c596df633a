"""What becomes of requests when the engine stops."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from service import Engine
from service.engine import EngineStoppedError, LaneDiedError, Model
from tests.service.engine.asking import Gate, ask
from tests.service.engine.fakes import POISON, Mortal, fake_model


def test_stopping_finishes_what_runs_and_drops_the_rest(small_store: Path, gate: Gate) -> None:
    model = fake_model(1, session=gate)

    async def main() -> list[Any]:
        running = Engine(small_store, lanes=1)
        async with running:
            tasks = [ask(running, model, n) for n in (1, 2, 3)]
            await asyncio.to_thread(gate.started.acquire)
            asyncio.get_running_loop().call_later(0.01, gate.open.set)
        tasks.append(ask(running, model, 4))
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second, *rest = asyncio.run(main())
    assert (first["h_next"], second["h_next"]) == (1, 2)  # the lane had both
    assert [type(error) for error in rest] == [EngineStoppedError] * 2


def test_stopping_drops_the_halves_of_a_batch_that_failed(
    small_store: Path, gate: Gate, gated: Model
) -> None:
    async def main() -> list[Any]:
        async with Engine(small_store, lanes=1) as running:
            tasks = [ask(running, gated, POISON + 1 + n) for n in range(4)]
            await asyncio.to_thread(gate.started.acquire)
            asyncio.get_running_loop().call_later(0.01, gate.open.set)
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(error) for error in asyncio.run(main())] == [EngineStoppedError] * 4


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_stopping_with_a_dead_lane(small_store: Path) -> None:
    model = fake_model(1, session=Mortal())

    async def main() -> list[Any]:
        async with Engine(small_store, lanes=1) as running:
            task = ask(running, model, 101)
            await asyncio.sleep(0)
        return await asyncio.gather(task, return_exceptions=True)

    (error,) = asyncio.run(asyncio.wait_for(main(), 60))
    assert isinstance(error, LaneDiedError | EngineStoppedError)


def test_stopping_does_not_wait_for_a_run_that_does_not_end(
    small_store: Path, gate: Gate, gated: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.engine.engine._STOP_SECONDS", 0.05)

    async def main() -> tuple[Any, threading.Thread]:
        async with Engine(small_store, lanes=1) as running:
            task = ask(running, gated, 1)
            await asyncio.to_thread(gate.started.acquire)
            thread = running._lanes[0].thread
        return (await asyncio.gather(task, return_exceptions=True))[0], thread

    error, thread = asyncio.run(asyncio.wait_for(main(), 60))
    assert isinstance(error, LaneDiedError)
    assert str(error) == "the engine was stopped, and the run did not end"
    gate.open.set()  # what it tells now, it tells nobody
    thread.join(60)
    assert not thread.is_alive()


ROOT = Path(__file__).resolve().parents[3]
HANGING = """
import asyncio, sys
from pathlib import Path
from service.engine import Engine, engine
from tests.service.engine.asking import Gate, ask
from tests.service.engine.fakes import fake_model

async def main():
    async with Engine(Path(sys.argv[1]), lanes=1) as running:
        task = ask(running, fake_model(session=gate), 1)
        await asyncio.to_thread(gate.started.acquire)
    await asyncio.wait([task])

engine._STOP_SECONDS = 0.05
gate = Gate()
asyncio.run(main())
"""


def test_a_process_ends_though_a_run_does_not(small_store: Path) -> None:
    command = [sys.executable, "-c", HANGING, small_store]
    assert subprocess.run(command, cwd=ROOT, timeout=30, check=False).returncode == 0
