"""The engine without a web server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service import Engine
from service.engine import engine
from service.engine.batching import InvalidTensorsError, Layout, Request
from service.engine.engine import EngineStoppedError, UnknownModelError
from service.engine.store import Model, load_store


def request(*sums: float, size: int = 784) -> dict[str, np.ndarray]:
    pixels = np.zeros((len(sums), size), np.float32)
    pixels[:, 0] = sums
    return {"pixels": pixels, "lengths": np.full(len(sums), size, np.int32)}


class Gate:
    """A session that runs when told to, and keeps what it was fed."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.started = threading.Semaphore(0)
        self.open = threading.Event()

    def run(self, outputs: Sequence[str], feeds: dict[str, np.ndarray], _: object) -> list[np.ndarray]:
        self.batches.append(feeds["pixels"][:, 0].tolist())
        self.started.release()
        self.open.wait(60)
        if "break" in outputs:
            raise RuntimeError("broken")
        return [feeds["pixels"][:, :1]] * len(outputs)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """The session of every model that an engine loads in this test."""
    session = Gate()
    monkeypatch.setattr(
        engine,
        "load_store",
        lambda store: {name: Model(model.card, session) for name, model in load_store(store).items()},
    )
    return session


def answers(tasks: Sequence[asyncio.Task[dict[str, np.ndarray]]]) -> list[list[float]]:
    return [task.result()["h_next"][:, 0].tolist() for task in tasks]


def test_infer_answers_what_was_asked(small_store: Path) -> None:
    async def main() -> dict[str, np.ndarray]:
        async with Engine(small_store, lanes=1) as running:
            return await running.infer("digits", request(3.0), ["trace", "h_next"])

    got = asyncio.run(main())
    assert set(got) == {"trace", "h_next"}
    assert got["h_next"] == 3
    assert got["trace"].shape == (1, 784, 10)
    np.testing.assert_allclose(got["trace"].sum(-1), 1, atol=1e-5)


@settings(max_examples=40)
@given(
    requests=st.lists(
        st.tuples(st.lists(st.integers(-1000, 100), min_size=1, max_size=5), st.sampled_from([3, 4, 7, 784])),
        max_size=60,
    ),
    lanes=st.integers(1, 3),
    max_rows=st.integers(1, 8),
)
def test_many_at_once_each_get_their_own_answer(
    small_store: Path, requests: list[tuple[list[int], int]], lanes: int, max_rows: int
) -> None:
    async def main() -> list[dict[str, np.ndarray]]:
        async with Engine(small_store, lanes, max_rows) as running:
            return await asyncio.gather(
                *(
                    running.infer("digits", request(*sums, size=size), ["h_next", "trace"])
                    for sums, size in requests
                )
            )

    got = asyncio.run(main())
    assert [answer["h_next"][:, 0].tolist() for answer in got] == [sums for sums, _ in requests]
    assert [answer["trace"].shape[:2] for answer in got] == [(len(sums), size) for sums, size in requests]


def test_what_gathers_while_the_lanes_run_runs_together(small_store: Path, gate: Gate) -> None:
    async def main() -> list[list[float]]:
        async with Engine(small_store, lanes=1, max_rows=4) as running:
            tasks = []
            for sums in ([0], [1, 2], [3], [4, 5], [6, 7, 8, 9, 10], [11]):
                tasks.append(asyncio.create_task(running.infer("digits", request(*sums), ["h_next"])))
                if len(tasks) == 1:
                    await asyncio.to_thread(gate.started.acquire)
            await asyncio.sleep(0)
            gate.open.set()
            await asyncio.wait(tasks)
            return answers(tasks)

    assert asyncio.run(main()) == [[0], [1, 2], [3], [4, 5], [6, 7, 8, 9, 10], [11]]
    assert gate.batches == [[0], [1, 2, 3], [4, 5], [6, 7, 8, 9, 10], [11]]


def test_lanes_run_side_by_side(small_store: Path, gate: Gate) -> None:
    async def main() -> None:
        async with Engine(small_store, lanes=2, max_rows=1) as running:
            tasks = [asyncio.create_task(running.infer("digits", request(n), ["h_next"])) for n in (1, 2, 3)]
            await asyncio.to_thread(gate.started.acquire)
            await asyncio.to_thread(gate.started.acquire)
            assert sorted(gate.batches) == [[1], [2]]
            gate.open.set()
            await asyncio.wait(tasks)
            assert answers(tasks) == [[1], [2], [3]]

    asyncio.run(main())


def test_a_cancelled_wait_leaves_the_queue(small_store: Path, gate: Gate) -> None:
    async def main() -> None:
        async with Engine(small_store, lanes=1) as running:
            tasks = [asyncio.create_task(running.infer("digits", request(n), ["h_next"])) for n in range(1)]
            await asyncio.to_thread(gate.started.acquire)
            tasks += [asyncio.create_task(running.infer("digits", request(n), ["h_next"])) for n in (1, 2, 3)]
            await asyncio.sleep(0)
            tasks.pop(2).cancel()
            tasks.pop(0).cancel()  # runs already
            gate.open.set()
            await asyncio.wait(tasks)
            assert answers(tasks) == [[1], [3]]

    asyncio.run(main())
    assert gate.batches == [[0], [1, 3]]


def test_stopping_finishes_what_runs_and_drops_the_rest(small_store: Path, gate: Gate) -> None:
    async def main() -> list[Any]:
        running = Engine(small_store, lanes=1, max_rows=1)
        async with running:
            tasks = [asyncio.create_task(running.infer("digits", request(n), ["h_next"])) for n in (1, 2)]
            await asyncio.to_thread(gate.started.acquire)
            asyncio.get_running_loop().call_later(0.01, gate.open.set)
        tasks.append(asyncio.create_task(running.infer("digits", request(3), ["h_next"])))
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, *rest = asyncio.run(main())
    assert first["h_next"] == 1
    assert [type(error) for error in rest] == [EngineStoppedError] * 2


def test_stopping_drops_the_halves_of_a_batch_that_failed(small_store: Path, gate: Gate) -> None:
    async def main() -> list[Any]:
        async with Engine(small_store, lanes=1) as running:
            tasks = [
                asyncio.create_task(running.infer("digits", request(n), ["h_next", "break"]))
                for n in range(4)
            ]
            await asyncio.to_thread(gate.started.acquire)
            asyncio.get_running_loop().call_later(0.01, gate.open.set)
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(error) for error in asyncio.run(main())] == [EngineStoppedError] * 4


def test_unknown_models_are_named(small_store: Path) -> None:
    async def main() -> None:
        async with Engine(small_store, lanes=1) as running:
            await running.infer("letters", request(1.0), ["probabilities"])

    with pytest.raises(UnknownModelError, match="there is no model 'letters'; this server has digits"):
        asyncio.run(main())


def test_uneven_inputs_are_refused(small_store: Path) -> None:
    async def main() -> None:
        async with Engine(small_store, lanes=1) as running:
            await running.infer("digits", request(1.0) | {"lengths": np.ones(2, np.int32)}, ["h_next"])

    with pytest.raises(InvalidTensorsError, match=r"input 'lengths' has the shape \[2\]"):
        asyncio.run(main())


def test_a_failing_run_fails_its_own_request_only(small_store: Path) -> None:
    async def main() -> list[object]:
        async with Engine(small_store, lanes=1) as running:
            wrong = {**request(1.0), "pixels": np.zeros((1, 784), np.float64)}
            return await asyncio.gather(
                running.infer("digits", wrong, ["h_next"]),
                running.infer("digits", request(2.0), ["h_next"]),
                return_exceptions=True,
            )

    failed, answered = asyncio.run(main())
    assert isinstance(failed, Exception)
    assert isinstance(answered, dict)
    assert answered["h_next"] == 2


@settings(max_examples=40)
@given(sums=st.lists(st.sampled_from([1, 50, 100, 101, 500]), min_size=1, max_size=40))
def test_a_failing_batch_fails_those_only_that_fail_alone(fragile_store: Path, sums: list[int]) -> None:
    async def main() -> list[Any]:
        async with Engine(fragile_store, lanes=2, max_rows=16) as running:
            return await asyncio.gather(
                *(running.infer("digits", request(n), ["h_next"]) for n in sums), return_exceptions=True
            )

    for n, answer in zip(sums, asyncio.run(main()), strict=True):
        if n > 100:
            assert "out of data bounds" in str(answer)
        else:
            assert answer["h_next"] == n


@pytest.fixture(scope="module")
def fragile_store(
    tmp_path_factory: pytest.TempPathFactory, write_artifact: Any, fragile_graph: bytes
) -> Path:
    store = tmp_path_factory.mktemp("fragile")
    write_artifact(store, graph=fragile_graph)
    return store


def test_an_answer_that_is_not_taken_harms_no_other(small_store: Path) -> None:
    def refuse(_: object) -> None:
        raise ValueError("not this one")

    async def main() -> dict[str, np.ndarray]:
        async with Engine(small_store, lanes=1) as running:
            running.submit("digits", request(1), ["h_next"], refuse)
            return await running.infer("digits", request(2), ["h_next"])

    assert asyncio.run(main())["h_next"] == 2


def test_a_batch_that_cannot_be_put_together_is_run_apart(
    small_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = Layout.stack

    def short_of_memory(layout: Layout, requests: Sequence[Request]) -> Any:
        if len(requests) > 2:
            raise MemoryError
        return stack(layout, requests)

    monkeypatch.setattr(Layout, "stack", short_of_memory)

    async def main() -> list[dict[str, np.ndarray]]:
        async with Engine(small_store, lanes=1) as running:
            return await asyncio.gather(*(running.infer("digits", request(n), ["h_next"]) for n in range(9)))

    assert [answer["h_next"].item() for answer in asyncio.run(main())] == [*range(9)]


def test_ready_while_it_runs(small_store: Path) -> None:
    running = Engine(small_store, lanes=1)
    assert not running.ready

    async def main() -> None:
        async with running:
            assert running.ready

    asyncio.run(main())
    assert not running.ready
