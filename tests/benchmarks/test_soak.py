"""The soak asks everything, notices what is wrong, and judges honestly. How fast anything is, and how much
memory it takes, no test says.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.soak import good, reloads, rude, run, streams
from benchmarks.soak.__main__ import main
from benchmarks.soak.oracle import Oracle
from benchmarks.soak.reloads import Operator
from benchmarks.soak.report import verdicts
from benchmarks.soak.run import MIX, Plan, Result, Sample
from benchmarks.soak.server import Holding, serving
from benchmarks.soak.tally import ViolationError
from benchmarks.soak.world import Act, World
from tests.service.conftest import small_card, small_graph
from tests.service.small_frames import small_frames_card, small_frames_graph

SHORT = Plan(seconds=4.0, reloads=8, clients=8, settling=0.0, idle=0.1, unhurried=0.2)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of models that cost next to nothing."""
    store = tmp_path_factory.mktemp("store")
    for name, graph, card in (
        ("digits", small_graph(), small_card),
        ("frames", small_frames_graph(), small_frames_card),
    ):
        folder = store / name / "1"
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(graph)
        document = card(graph, name, "1")
        document["exactness"]["batched"] = "rounding"  # of the small graph for digits
        (folder / "card.json").write_text(json.dumps(document))
    return store


@pytest.fixture(scope="module")
def oracle(store: Path) -> Oracle:
    return Oracle(store)


@asynccontextmanager
async def small_world(oracle: Oracle, folder: Path) -> AsyncIterator[tuple[World, Operator]]:
    """A server, its clients' world, and its operator."""
    oracle.versions.clear()
    world = World(("", 0), oracle, unhurried=0.2)
    operator = Operator(world, folder / "store")
    async with serving(folder / "store", folder / "log") as server:
        world.address = await server.address()
        yield world, operator


def test_each_act_comes_to_its_outcome(oracle: Oracle, tmp_path: Path) -> None:
    deadlines = (good.digits_deadline, good.infer_deadline)
    left = (rude.leave_while_sending, rude.leave_while_waiting, rude.leave_while_reading, streams.stream_left)
    expected: dict[Act, set[str]] = {act: {"200"} for act in MIX}
    expected |= {act: {"200", "429", "504"} for act in deadlines}
    expected |= {act: {"disconnected"} for act in left}
    expected |= {act: {"result"} for act in (streams.stream, streams.stream_resumed)}
    expected[rude.no_http] = {"400", "closed"}
    expected[rude.nonsense] = {"400", "404", "405", "413", "415", "422"}

    async def check() -> None:
        async with small_world(oracle, tmp_path) as (world, _):
            for act in MIX:
                assert {await act(world) for _ in range(3)} <= expected[act], act.__name__

    asyncio.run(check())


async def wrong(act: Act, world: World) -> str:
    """Why an act is not satisfied. One with a deadline has not always an answer to check."""
    for _ in range(100):
        try:
            outcome = await act(world)
        except ViolationError as error:
            return str(error)
        assert outcome in ("429", "504"), act.__name__
    raise AssertionError(f"{act.__name__} is never answered")


def test_answers_of_another_version_are_noticed(oracle: Oracle, tmp_path: Path) -> None:
    """Each act that checks answers checks them against the version that is said to have answered."""
    checking = [act for act in MIX if act.__module__ == good.__name__ and act is not good.operations]
    checking += [streams.stream, streams.stream_resumed, rude.send_slowly, rude.read_slowly]
    other = copy(oracle)
    other._pixels, other._pictures, other._frames = (
        found[::-1] for found in (oracle._pixels, oracle._pictures, oracle._frames)
    )

    async def check() -> None:
        async with small_world(other, tmp_path) as (world, _):
            for act in checking:
                assert "differs from onnxruntime alone by" in await wrong(act, world)

    asyncio.run(check())


def test_reloads_of_every_kind(oracle: Oracle, tmp_path: Path) -> None:
    async def check() -> None:
        async with small_world(oracle, tmp_path) as (world, operator):
            done = [await operator.reload() for _ in range(8)]
            assert done == ["noticed", "noticed", "told", "broken", "noticed", "noticed", "told", "broken"]
            assert world.ready == {"digits": 5, "frames": 3}
            assert await good.infer_version(world) == "200"

    asyncio.run(check())


def test_a_reload_that_does_nothing_is_noticed(
    oracle: Oracle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        async with small_world(oracle, tmp_path) as (world, operator):
            assert await operator.reload() == "noticed"
            monkeypatch.setattr(reloads, "PATIENCE_SECONDS", 0.5)
            with pytest.raises(ViolationError, match=r"digits version 9 is still None .* expected READY"):
                await operator._until("digits", 9, "READY")
            assert world.ready["digits"] == 2

    asyncio.run(check())


def test_a_short_soak_finds_nothing_wrong(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.soak.__main__.Plan", lambda _, count: replace(SHORT, reloads=count))
    results: list[Result] = []

    async def soak(source: Path, plan: Plan) -> Result:
        results.append(await run.soak(source, plan))
        return results[0]

    monkeypatch.setattr("benchmarks.soak.__main__.soak", soak)
    main(["--store", str(store), "--out", str(tmp_path), "--reloads", "8"])
    (result,) = results
    assert (result.tally.told, result.reloads.told) == ([], [])
    assert result.tally.acts >= SHORT.clients
    assert result.reloads.acts == 8
    assert result.complaints == {}
    assert result.status == 0
    report = (tmp_path / "soak.md").read_text()
    assert f"| no request hangs | 0 of {result.tally.acts} acts hung | met |" in report
    assert len((tmp_path / "soak.csv").read_text().splitlines()) == len(result.samples) + 1
    assert (tmp_path / "soak-memory.svg").stat().st_size > 1000


def ideal() -> Result:
    """A result that meets all that is asked."""
    result = Result(replace(SHORT, reloads=1), idle=0.0, left={"waiting requests": 0}, status=0)
    result.samples += [Sample(second, second, Holding(10**8, 10, 40, 1.0)) for second in range(100)]
    result.tally.add("digits_json", "200", 0.1)
    result.reloads.add("reload", "told", 0.1)
    return result


def grow(kind: str, factor: float) -> Callable[[Result], object]:
    def change(result: Result) -> None:
        for index, sample in enumerate(result.samples[50:], 50):
            more = {kind: int(getattr(sample.holding, kind) * factor)}
            result.samples[index] = replace(sample, holding=replace(sample.holding, **more))

    return change


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        (lambda _: None, []),
        (lambda result: result.tally.violated("a", "hung", "b", 60.0), [0, 1]),
        (lambda result: result.tally.violated("a", "wrong", "b", 1.0), [1]),
        (lambda result: result.tally.outcomes.clear(), [0, 1]),
        (lambda result: result.reloads.violated("reload", "wrong", "b", 1.0), [2]),
        (lambda result: result.reloads.outcomes.clear(), [2]),
        (grow("rss", 1.04), []),
        (grow("rss", 1.06), [3]),
        (grow("rss", 0.9), [3]),
        (grow("threads", 1.5), [4]),
        (grow("files", 1.1), [5]),
        (lambda result: result.samples.clear(), [3, 4, 5]),
        (lambda result: result.complaints.update(["request failed"]), [6]),
        (lambda result: result.left.update({"open streams": 1}), [7]),
        (lambda result: setattr(result, "idle", 0.0008), [8]),
        (lambda result: setattr(result, "idle", float("nan")), [8]),
        (lambda result: setattr(result, "status", 143), [9]),
        (lambda result: setattr(result, "status", None), [9]),
    ],
)
def test_verdicts(change: Callable[[Result], object], missed: list[int]) -> None:
    result = ideal()
    change(result)
    assert [number for number, verdict in enumerate(verdicts(result)) if not verdict.met] == missed
