"""Lanes that die, and models that run no more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service import Engine
from service.engine import LaneDiedError, Model, store
from tests.service.engine.asking import answers, ask, kinds, request, until
from tests.service.engine.fakes import POISON, FakeSession, Mortal, fake_model

dying = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@dying
def test_a_lane_that_dies_fails_its_requests_and_is_replaced(small_store: Path) -> None:
    """A worker that is gone answers those who wait for it, flips readiness, and is started again
    (infinity#544).
    """
    model = fake_model(1, session=Mortal())
    seen: list[tuple[type[object], bool]] = []  # the answer, and whether the engine was ready in that moment

    async def main() -> None:
        async with Engine(small_store, lanes=2) as running:

            def done(answer: object) -> None:
                seen.append((type(answer), running.ready))

            lanes = [lane.thread for lane in running._lanes]
            running.submit(model, request(101), ["h_next"], done)
            tasks = [ask(running, model, n) for n in (1, 2, 3)]
            await asyncio.wait(tasks)
            assert answers(tasks) == [[1], [2], [3]]
            await until(lambda: bool(seen))
            await until(lambda: running.ready)
            assert [lane.thread for lane in running._lanes] != lanes
            assert all(lane.thread.is_alive() for lane in running._lanes)
            more = [ask(running, model, n) for n in range(20)]
            await asyncio.wait(more)
            assert answers(more) == [[n] for n in range(20)]

    asyncio.run(main())
    assert seen == [(LaneDiedError, False)]


@dying
@pytest.mark.parametrize("lanes", [1, 2])
def test_what_a_dying_lane_would_have_run_next_is_run_by_another(small_store: Path, lanes: int) -> None:
    model = fake_model(1, session=Mortal())

    async def main() -> None:
        async with Engine(small_store, lanes=lanes) as running:
            tasks = [ask(running, model, n) for n in (101, *range(10))]
            await asyncio.wait(tasks)
            assert kinds(tasks[:1]) == [LaneDiedError]
            assert answers(tasks[1:]) == [[n] for n in range(10)]
            await until(lambda: running.ready)

    asyncio.run(main())


@dying
def test_a_lane_that_cannot_be_replaced_yet_is_tried_again(
    small_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.engine.engine._RETRY_SECONDS", 0.01)
    model = fake_model(1, session=Mortal())
    start = threading.Thread.start
    refused: list[str] = []

    def no_more_threads(thread: threading.Thread) -> None:
        if thread.name.startswith("lane-") and len(refused) < 3:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    async def main() -> None:
        async with Engine(small_store, lanes=1) as running:
            monkeypatch.setattr(threading.Thread, "start", no_more_threads)
            died, waiting = ask(running, model, 101), ask(running, model, 5)
            await asyncio.wait([died, waiting])
            assert kinds([died]) == [LaneDiedError]
            assert answers([waiting]) == [[5]]
            await until(lambda: running.ready)

    asyncio.run(main())
    assert refused == ["lane-0"] * 3


@dying
def test_a_lane_that_dies_while_no_model_is_served_is_replaced(small_store: Path) -> None:
    held = fake_model(1, session=Mortal())  # as a stream holds one

    async def main() -> None:
        async with Engine(small_store, lanes=1) as running:
            for name in [*running.models]:
                running.repository.unload(name)
            died = ask(running, held, 101)
            await asyncio.wait([died])
            assert kinds([died]) == [LaneDiedError]
            await until(lambda: running.ready)
            await ask(running, held, 5)
            await running.repository.load("digits")
            await ask(running, running.model("digits"), 6)

    asyncio.run(asyncio.wait_for(main(), 60))


def serve(running: Engine, session: FakeSession) -> None:
    """As if that session were what had been loaded for digits."""
    running.repository._versions["digits", 1].model = fake_model(1, session=session)
    running.repository._changed()


@dying
def test_a_model_that_a_new_lane_cannot_run_is_loaded_anew(
    small_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.engine.engine._RETRY_SECONDS", 0.01)

    class Broken(Mortal):
        def run(self, outputs: Sequence[str], feeds: dict[str, np.ndarray], options: object) -> Any:
            super().run(outputs, feeds, options)
            raise RuntimeError("the device is gone")

    async def main() -> None:
        async with Engine(small_store, lanes=1) as running:
            serve(running, Broken())
            await asyncio.wait([ask(running, running.model("digits"), 101)])
            await until(lambda: running.ready)
            assert running.repository.loads["loaded"] == 3
            await ask(running, running.model("digits"), 5)

    asyncio.run(asyncio.wait_for(main(), 60))


@dying
def test_a_lane_that_finds_no_memory_to_be_tried_with_is_tried_again(
    small_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.engine.engine._RETRY_SECONDS", 0.01)
    model = fake_model(1, session=Mortal())
    short: list[Model] = []

    def golden(model: Model) -> Any:
        if len(short) < 3:
            short.append(model)
            raise MemoryError
        return store.golden(model)

    async def main() -> None:
        async with Engine(small_store, lanes=1) as running:
            monkeypatch.setattr("service.engine.engine.golden", golden)
            await asyncio.wait([ask(running, model, 101)])
            await ask(running, model, 5)
            await until(lambda: running.ready)

    asyncio.run(asyncio.wait_for(main(), 60))
    assert len(short) == 3


@dying
def test_lanes_that_die_of_the_golden_input_are_replaced_at_leisure(
    small_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.engine.engine._RETRY_SECONDS", 0.1)

    class Deadly(FakeSession):
        deaths, healed = 0, False

        def run(self, outputs: Sequence[str], feeds: dict[str, np.ndarray], options: object) -> Any:
            if self.healed:
                return super().run(outputs, feeds, options)
            self.deaths += 1
            raise SystemExit

    session = Deadly()

    async def main() -> None:
        async with Engine(small_store, lanes=1) as running:
            serve(running, session)
            await asyncio.wait([ask(running, running.model("digits"), 1)])
            await asyncio.sleep(0.35)
            assert not running.ready
            assert 2 <= session.deaths <= 5
            session.healed = True
            await until(lambda: running.ready)

    asyncio.run(asyncio.wait_for(main(), 60))


class Fading(FakeSession):
    """A session that runs no more from some time on, as after an error of a device."""

    broken = False

    def run(self, outputs: Sequence[str], feeds: dict[str, np.ndarray], options: object) -> list[np.ndarray]:
        if self.broken:
            raise RuntimeError("the device is gone")
        return super().run(outputs, feeds, options)


def test_a_model_that_fails_at_its_own_golden_input_is_reported(
    small_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Fading()
    model = fake_model(session=session)
    faults: list[tuple[Model, str]] = []

    async def main() -> None:
        async with Engine(small_store, lanes=1) as running:
            monkeypatch.setattr(running.repository, "fault", lambda *fault: faults.append(fault))
            await ask(running, model, 1)
            poisonous = ask(running, model, POISON + 1)
            await asyncio.wait([poisonous])
            await ask(running, model, 2)
            assert not faults  # the request was to blame
            session.broken = True
            running._doubted.clear()  # a second later
            failed = [ask(running, model, n) for n in range(3)]
            await asyncio.wait(failed)
            await until(lambda: bool(faults))
            assert kinds(failed) == [RuntimeError] * 3

    asyncio.run(main())
    assert [(broken, reason.count("device is gone")) for broken, reason in faults] == [(model, 2)]


@dying
def test_nobody_waits_forever(small_store: Path) -> None:
    """Lanes die in the middle of everything; each request gets an answer or an error."""
    model = fake_model(2, session=Mortal())

    async def main() -> list[Any]:
        async with Engine(small_store, lanes=2) as running:
            waits: list[Awaitable[Any]] = [ask(running, model, *range(n % 5 + 1)) for n in range(100)]
            waits[10:10] = [ask(running, model, 101 + n) for n in range(10)]
            return await asyncio.gather(*waits, return_exceptions=True)

    got = asyncio.run(asyncio.wait_for(main(), 60))
    assert sum(isinstance(answer, dict) for answer in got) >= 80
    assert all(isinstance(answer, dict | LaneDiedError) for answer in got)
