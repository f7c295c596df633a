"""The engine without a web server, on its real threads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service import Engine
from service.engine import (
    DeadlineExceededError,
    InvalidTensorsError,
    Limits,
    Model,
    OverloadedError,
    UnknownModelError,
)
from service.engine.batching import Layout, Piece
from tests.service.engine.asking import Gate, answers, ask, kinds, request
from tests.service.engine.fakes import fake_model


def test_infer_answers_what_was_asked(small_store: Path) -> None:
    async def main() -> dict[str, np.ndarray]:
        async with Engine(small_store, lanes=1) as running:
            return await running.infer("digits", request(3.0), ["trace", "h_next"])

    got = asyncio.run(main())
    assert set(got) == {"trace", "h_next"}
    assert got["h_next"] == 3
    assert got["trace"].shape == (1, 784, 10)
    np.testing.assert_allclose(got["trace"].sum(-1), 1, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    requests=st.lists(
        st.tuples(st.lists(st.integers(-1000, 100), min_size=1, max_size=9), st.sampled_from([3, 4, 7, 784])),
        max_size=60,
    ),
    lanes=st.integers(1, 3),
    max_rows=st.integers(1, 8),
)
def test_many_at_once_each_get_their_own_answer(
    small_store: Path, requests: list[tuple[list[int], int]], lanes: int, max_rows: int
) -> None:
    """Answer i belongs to request i (MLServer#1306)."""

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


def test_what_gathers_while_the_lanes_run_runs_together(small_store: Path, gate: Gate, gated: Model) -> None:
    async def main() -> list[list[float]]:
        async with Engine(small_store, lanes=1) as running:
            tasks = [ask(running, gated, 0)]
            await asyncio.to_thread(gate.started.acquire)
            tasks += [ask(running, gated, *sums) for sums in ([1, 2], [3], [4, 5], [6, 7, 8, 9, 10], [11])]
            await asyncio.sleep(0)
            gate.open.set()
            await asyncio.wait(tasks)
            return answers(tasks)

    assert asyncio.run(main()) == [[0], [1, 2], [3], [4, 5], [6, 7, 8, 9, 10], [11]]
    assert gate.batches == [[0], [1, 2, 3], [4, 5], [6, 7, 8, 9], [10, 11]]


def test_lanes_run_side_by_side(small_store: Path, gate: Gate) -> None:
    model = fake_model(1, session=gate)

    async def main() -> None:
        async with Engine(small_store, lanes=2) as running:
            tasks = [ask(running, model, n) for n in (1, 2, 3, 4, 5)]
            await asyncio.to_thread(gate.started.acquire)
            await asyncio.to_thread(gate.started.acquire)
            assert running.scheduler.running == 2
            assert running.scheduler.queue.rows == 1  # each lane has what it runs next
            gate.open.set()
            await asyncio.wait(tasks)
            assert answers(tasks) == [[1], [2], [3], [4], [5]]

    asyncio.run(main())


def test_a_cancelled_wait_leaves_the_queue(small_store: Path, gate: Gate, gated: Model) -> None:
    """A client that has gone costs nothing that had not begun (triton#3581)."""

    async def main() -> None:
        async with Engine(small_store, lanes=1) as running:
            tasks = [ask(running, gated, 0)]
            await asyncio.to_thread(gate.started.acquire)
            tasks += [ask(running, gated, n) for n in (1, 2, 3)]
            await asyncio.sleep(0)
            tasks.pop(2).cancel()
            tasks.pop(0).cancel()  # runs already
            await asyncio.sleep(0)
            assert running.scheduler.queue.rows == 2
            gate.open.set()
            await asyncio.wait(tasks)
            assert answers(tasks) == [[1], [3]]

    asyncio.run(main())
    assert gate.batches == [[0], [1, 3]]


def test_a_deadline_passes_while_another_runs(small_store: Path, gate: Gate, gated: Model) -> None:
    async def main() -> None:
        async with Engine(small_store, lanes=1) as running:
            first = ask(running, gated, 1)
            await asyncio.to_thread(gate.started.acquire)
            late = ask(running, gated, 2, deadline=asyncio.get_running_loop().time() + 0.02)
            await asyncio.wait([late])
            assert kinds([late]) == [DeadlineExceededError]
            assert not first.done()
            gate.open.set()
            await first

    asyncio.run(main())
    assert gate.batches == [[1]]


def test_a_full_queue_is_told(small_store: Path, gate: Gate, gated: Model) -> None:
    async def main() -> None:
        async with Engine(small_store, lanes=1, limits=Limits(rows=2)) as running:
            tasks = [ask(running, gated, 0)]
            await asyncio.to_thread(gate.started.acquire)
            tasks += [ask(running, gated, 1), ask(running, gated, 2)]
            await asyncio.sleep(0)
            with pytest.raises(OverloadedError, match="at most 2 rows"):
                await running.infer(gated, request(3), ["h_next"])
            gate.open.set()
            await asyncio.wait(tasks)
            assert answers(tasks) == [[0], [1], [2]]

    asyncio.run(main())


def test_unknown_models_are_named(small_store: Path) -> None:
    async def main() -> None:
        async with Engine(small_store, lanes=1) as running:
            await running.infer("letters", request(1.0), ["probabilities"])

    with pytest.raises(UnknownModelError, match="there is no model 'letters'; this server has digits"):
        asyncio.run(main())


def test_wrong_tensors_are_refused(small_store: Path) -> None:
    async def main() -> None:
        async with Engine(small_store, lanes=1) as running:
            await running.infer("digits", request(1.0) | {"lengths": np.ones(2, np.int32)}, ["h_next"])

    with pytest.raises(InvalidTensorsError, match="input 'lengths' has 2 rows; expected 1"):
        asyncio.run(main())


@settings(max_examples=40, deadline=None)
@given(sums=st.lists(st.sampled_from([1, 50, 100, 101, 500]), min_size=1, max_size=40))
def test_a_failing_batch_fails_those_only_that_fail_alone(fragile_store: Path, sums: list[int]) -> None:
    async def main() -> list[Any]:
        async with Engine(fragile_store, lanes=2, max_rows=16) as running:
            got = await asyncio.gather(
                *(running.infer("digits", request(n), ["h_next"]) for n in sums), return_exceptions=True
            )
            assert running.ready  # the requests were poisonous, the model is not broken
            return got

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
            running.submit(running.model("digits"), request(1), ["h_next"], refuse)
            return await running.infer("digits", request(2), ["h_next"])

    assert asyncio.run(main())["h_next"] == 2


def test_a_batch_that_cannot_be_put_together_is_run_apart(
    small_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = Layout.stack

    def short_of_memory(layout: Layout, pieces: Sequence[Piece]) -> Any:
        if len(pieces) > 2:
            raise MemoryError
        return stack(layout, pieces)

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
