"""Sequences of requests: their order, their state, and what becomes of both when one fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.engine import (
    DeadlineExceededError,
    Engine,
    EngineStoppedError,
    InvalidTensorsError,
    Model,
    OverloadedError,
)
from service.engine.store import load_model
from service.streams import sequences
from service.streams.registry import Kind, Reason, Registry, TooManyStreamsError
from service.streams.sequences import (
    MOST_WAITING,
    InterruptedSequenceError,
    SequenceError,
    Sequences,
    UnknownSequenceError,
)
from tests.service import small_frames
from tests.service.engine.fakes import FakeClock

HOP = small_frames.HOP
MOST = 3
IDLE = 60


class World:
    """Sequences on a running engine of the small store."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.clock = FakeClock()
        self.registry = Registry(MOST, lambda: self.clock)
        self.sequences = Sequences(engine, self.registry, IDLE, lambda: self.clock)
        self.model = engine.model("digits")

    async def add(self, amount: float, sequence_id: int | str = 7, rows: int = 1, **options: Any) -> float:
        """Add to the sum that the small model carries, and get it."""
        inputs = {
            "pixels": np.full((rows, 1), amount, np.float32),
            "lengths": np.ones(rows, np.int32),
            **options.pop("states", {}),
        }
        model = options.pop("model", self.model)
        answer = await self.sequences.infer(model, sequence_id, inputs, ["h_next"], **options)
        return float(answer["h_next"][-1, 0])

    def hold(self) -> Callable[[], None]:
        """Keep the engine from running anything, until the returned function is called."""
        dispatch, self.engine._dispatch = self.engine._dispatch, lambda: None  # type: ignore[method-assign]

        def release() -> None:
            self.engine._dispatch = dispatch  # type: ignore[method-assign]
            dispatch()

        return release


def run(store: Path, test: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        async with Engine(store, lanes=1) as engine:
            await test(World(engine))

    asyncio.run(main())


def test_the_state_is_carried_from_request_to_request(small_store: Path) -> None:
    async def test(world: World) -> None:
        assert await world.add(1, start=True) == 1
        assert await world.add(2) == 3
        assert await world.add(10, "7", start=True) == 10  # another one
        assert await world.add(3, end=True) == 6
        assert await world.add(10, "7") == 20
        with pytest.raises(
            UnknownSequenceError,
            match=r"^sequence 7 of model digits ended 0 seconds ago, after 3 requests, by sequence_end; "
            "it must be started with sequence_start$",
        ):
            await world.add(1)
        assert len(world.registry) == 1

    run(small_store, test)


def test_chunks_give_what_the_whole_does_bit_for_bit(small_store: Path) -> None:
    waveform = np.random.default_rng(0).uniform(-1, 1, (2, 40 * HOP)).astype(np.float32)

    async def test(world: World) -> None:
        model = world.engine.model("frames")

        async def hear(first: int, last: int, **options: Any) -> np.ndarray:
            inputs = {"waveform": waveform[:, first:last], "lengths": np.full(2, last - first, np.int32)}
            answer = await world.sequences.infer(model, "s", inputs, ["probabilities", "frames"], **options)
            return answer["probabilities"][:, : answer["frames"][0]].copy()

        whole = await hear(0, 40 * HOP, start=True, end=True)
        pieces = [await hear(0, 99, start=True), await hear(99, 1000), await hear(1000, 40 * HOP, end=True)]
        np.testing.assert_array_equal(np.concatenate(pieces, axis=1), whole)

    run(small_store, test)


def test_requests_sent_at_once_run_in_their_order(small_store: Path) -> None:
    async def test(world: World) -> None:
        tasks = [world.add(1, start=True), *(world.add(1) for _ in range(10)), world.add(1, end=True)]
        assert await asyncio.gather(*tasks) == [*range(1, 13)]
        assert len(world.registry) == 0

    run(small_store, test)


def test_a_failed_request_changes_nothing_and_interrupts_those_behind_it(small_store: Path) -> None:
    async def test(world: World) -> None:
        await world.add(1, start=True)
        for end in (False, True):
            tasks = [
                asyncio.create_task(world.add(1)),
                asyncio.create_task(world.add(1, states={"x": np.zeros((1, 1), np.float32)}, end=end)),
                *(asyncio.create_task(world.add(1)) for _ in range(2)),
            ]
            before, broken, *behind = await asyncio.gather(*tasks, return_exceptions=True)
            assert before == 2 + 2 * end
            assert isinstance(broken, InvalidTensorsError)
            for error in behind:
                assert isinstance(error, UnknownSequenceError if end else InterruptedSequenceError)
            assert ("the state is that after the 2 which were answered" in str(behind[0])) != end
            assert await world.add(1) == 3 + 2 * end

    run(small_store, test)


def test_a_request_that_nobody_waits_for_any_more_changes_nothing(small_store: Path) -> None:
    async def test(world: World) -> None:
        await world.add(1, start=True)
        release = world.hold()
        queued = asyncio.create_task(world.add(1))
        behind = asyncio.create_task(world.add(1))
        await asyncio.sleep(0)
        queued.cancel()
        await asyncio.wait([queued])
        with pytest.raises(InterruptedSequenceError):
            await behind
        release()
        assert await world.add(1) == 2
        assert world.sequences._waiting_bytes == 0

    run(small_store, test)


def test_a_request_does_not_fail_because_of_later_ones(small_store: Path) -> None:
    async def test(world: World) -> None:
        await world.add(1, start=True)
        release = world.hold()
        first, second, left, behind = (asyncio.create_task(world.add(1)) for _ in range(4))
        await asyncio.sleep(0)
        left.cancel()
        now = asyncio.get_running_loop().time()
        last = asyncio.create_task(world.add(1, deadline=now + 0.05))
        with pytest.raises(DeadlineExceededError):
            await last
        release()
        assert (await first, await second) == (2, 3)
        with pytest.raises(
            InterruptedSequenceError, match="the state is that after the 3 which were answered"
        ):
            await behind
        assert await world.add(1) == 4

    run(small_store, test)


@pytest.mark.parametrize(("rows", "before"), [(1, MOST_WAITING + 1), (2, 2)])
def test_nothing_comes_after_a_request_that_was_refused(small_store: Path, rows: int, before: int) -> None:
    """Its client may have sent more before it could know."""

    async def test(world: World) -> None:
        await world.add(1, start=True)
        release = world.hold()
        waits = [asyncio.create_task(world.add(1)) for _ in range(before)]
        await asyncio.sleep(0)
        with pytest.raises(SequenceError if rows > 1 else OverloadedError):
            await world.add(1, rows=rows)
        release()
        assert await waits[0] == 2  # so that there is room again
        with pytest.raises(
            InterruptedSequenceError,
            match=f"was refused, and {before - 1} before that still wait or run: go on when these have been",
        ):
            await world.add(1)
        assert await asyncio.gather(*waits) == [*range(2, 2 + before)]
        assert await world.add(1) == 2 + before

    run(small_store, test)


def test_the_time_of_a_request_runs_while_it_waits_for_others(small_store: Path) -> None:
    async def test(world: World) -> None:
        now = asyncio.get_running_loop().time()
        await world.add(1, start=True)
        release = world.hold()
        first = asyncio.create_task(world.add(1))
        await asyncio.sleep(0)
        with pytest.raises(DeadlineExceededError, match="waited for others of sequence 7 until its time"):
            await world.add(1, deadline=now + 0.05)
        release()
        assert await first == 2

    run(small_store, test)


def test_a_first_request_that_fails_begins_nothing(small_store: Path) -> None:
    async def test(world: World) -> None:
        with pytest.raises(InvalidTensorsError):
            await world.add(1, start=True, states={"x": np.zeros((1, 1), np.float32)})
        with pytest.raises(UnknownSequenceError, match="ended 0 seconds ago, after 0 requests: failed;"):
            await world.add(1)

    run(small_store, test)


def test_a_start_begins_anew(small_store: Path) -> None:
    async def test(world: World) -> None:
        await world.add(1, start=True)
        release = world.hold()
        old, new = asyncio.create_task(world.add(1)), asyncio.create_task(world.add(5, start=True))
        await asyncio.sleep(0)
        release()
        assert (await old, await new, await world.add(1)) == (2, 5, 6)
        assert world.registry.ended == {(Kind.SEQUENCE, Reason.RESTARTED): 1}

    run(small_store, test)


def test_states_are_given_and_got_as_tensors(small_store: Path) -> None:
    """So a sequence can be moved, or forked: ask for its states, and start another one with them."""

    async def test(world: World) -> None:
        total = await world.add(5, start=True)
        states = {"h": np.array([[total]], np.float32)}
        assert await world.add(1, "fork", start=True, states=states) == 6
        with pytest.raises(SequenceError, match="gives 'h', which the sequence carries; expected states in"):
            await world.add(1, states=states)

    run(small_store, test)


def test_sequences_of_others_are_out_of_reach(small_store: Path) -> None:
    async def test(world: World) -> None:
        await world.add(1, start=True, owner="ann")
        for owner in ("", "bob"):
            with pytest.raises(UnknownSequenceError, match="sequence 7 of model digits is not known"):
                await world.add(1, owner=owner)
        assert await world.add(1, owner="ann") == 2

    run(small_store, test)


def test_a_sequence_keeps_to_the_version_that_it_began_on(
    small_store: Path, tmp_path: Path, write_artifact: Any
) -> None:
    write_artifact(tmp_path, version="2")

    async def test(world: World) -> None:
        newer = load_model(tmp_path / "digits" / "2")
        await world.add(1, start=True)
        assert await world.add(1, model=newer) == 2  # the newest by now, but none was named
        for version in (None, "1"):
            assert world.sequences.model("digits", 7, version=version) is world.model
        with pytest.raises(
            SequenceError,
            match="is for version 2; sequence 7 of model digits was started on version 1 and keeps to it",
        ):
            world.sequences.model("digits", 7, version="2")
        asked: list[Model] = []
        submit = world.engine.submit

        def watch(model: Model, *arguments: Any, **options: Any) -> Any:
            asked.append(model)
            return submit(model, *arguments, **options)

        world.engine.submit = watch  # type: ignore[method-assign]
        await world.add(1, model=newer)
        assert asked == [world.model]
        await world.add(1, model=newer, start=True)
        assert asked == [world.model, newer]

    run(small_store, test)


def test_rows(small_store: Path) -> None:
    async def test(world: World) -> None:
        await world.add(1, start=True, rows=3)
        with pytest.raises(SequenceError, match="the request has 1 rows; sequence 7 was started with 3"):
            await world.add(1)
        assert await world.add(1, rows=3) == 2
        with pytest.raises(SequenceError, match="the request has 65 rows; a sequence may have 64"):
            await world.add(1, start=True, rows=65)

    run(small_store, test)


def test_models_without_states_have_no_sequences(small_store: Path) -> None:
    async def test(world: World) -> None:
        card = world.model.card.model_copy(update={"states": []})
        with pytest.raises(SequenceError, match="model digits has no states; expected a request without"):
            await world.add(1, start=True, model=replace(world.model, card=card))
        assert not len(world.registry)

    run(small_store, test)


def test_limits(small_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(world: World) -> None:
        for number in range(MOST):
            await world.add(1, number + 1, start=True)
        with pytest.raises(TooManyStreamsError, match="3 streams are open, as many as this server takes"):
            await world.add(1, 99, start=True)
        assert await world.add(1, 1, start=True) == 1  # one in the place of another
        assert world.registry.rejected == {Kind.SEQUENCE: 1}

        release = world.hold()
        queued = [asyncio.create_task(world.add(1, 1)) for _ in range(MOST_WAITING + 1)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="17 requests of sequence 1 wait or run; they run one at a"):
            await world.add(1, 1)
        monkeypatch.setattr(sequences, "MOST_WAITING_BYTES", 17 * 8)
        other = asyncio.create_task(world.add(1, 2))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="144 bytes of requests wait for others of their sequences"):
            await world.add(1, 2)
        release()
        assert await asyncio.gather(*queued, other) == [*range(2, 19), 2]

    run(small_store, test)


def test_idle_sequences_end(small_store: Path) -> None:
    async def test(world: World) -> None:
        await world.add(1, start=True)
        world.clock.advance(IDLE)
        with pytest.raises(UnknownSequenceError, match=r"after 1 requests and 60 idle seconds; it must be"):
            await world.add(1)
        assert world.registry.ended == {(Kind.SEQUENCE, Reason.IDLE): 1}

    run(small_store, test)


def test_a_sequence_is_not_idle_while_a_request_of_it_waits(small_store: Path) -> None:
    async def test(world: World) -> None:
        await world.add(1, start=True)
        release = world.hold()
        queued = asyncio.create_task(world.add(1))
        await asyncio.sleep(0)
        world.clock.advance(5 * IDLE)
        release()
        assert await queued == 2
        world.clock.advance(IDLE - 1)  # counted from the answer
        assert await world.add(1) == 3

    run(small_store, test)


def test_a_server_that_stops_begins_nothing_and_answers_what_waits(small_store: Path) -> None:
    async def test(world: World) -> None:
        await world.add(1, start=True)
        release = world.hold()
        queued = asyncio.create_task(world.add(1))
        await asyncio.sleep(0)
        world.registry.shutdown()
        with pytest.raises(EngineStoppedError, match="the server is shutting down"):
            await world.add(1, 8, start=True)
        release()
        assert await queued == 2

    run(small_store, test)
