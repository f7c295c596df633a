"""One soak: the load, the reloads and the watching, side by side, and then the silence."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.soak import good, rude, streams
from benchmarks.soak.http import ClosedError, Connection, request
from benchmarks.soak.oracle import Oracle
from benchmarks.soak.reloads import Operator
from benchmarks.soak.server import Holding, ServerProcess, serving
from benchmarks.soak.tally import Tally, ViolationError
from benchmarks.soak.world import Act, World

BOUND_SECONDS = 60.0  # in which each act has to come to an end
MIX: dict[Act, int] = {  # of 100 acts
    good.digits_json: 14,
    good.digits_image: 8,
    good.digits_batch: 3,
    good.digits_deadline: 4,
    good.infer_json: 8,
    good.infer_binary: 13,
    good.infer_version: 3,
    good.infer_deadline: 4,
    good.sequence: 4,
    good.frames_recording: 6,
    good.operations: 1,
    streams.stream: 4,
    streams.stream_resumed: 3,
    rude.send_slowly: 2,
    rude.read_slowly: 2,
    rude.no_http: 2,
    rude.nonsense: 9,
    rude.leave_while_sending: 3,
    rude.leave_while_waiting: 4,
    rude.leave_while_reading: 2,
    streams.stream_left: 1,
}


@dataclass(frozen=True)
class Plan:
    """
    Attributes:
        seconds: of load.
        reloads: in that time.
        clients: that act at the same time, one act after the other each.
        settling: seconds from the load's end until nothing may be left of it.
        idle: seconds for which processor time is measured after that.
        unhurried: seconds that slow clients take.
    """

    seconds: float
    reloads: int
    clients: int = 24
    settling: float = 15.0
    idle: float = 20.0
    unhurried: float = 3.0


@dataclass(frozen=True)
class Sample:
    """What the server held, so many seconds after the load began, and how many acts had ended."""

    seconds: float
    acts: int
    holding: Holding


@dataclass
class Result:
    """What was found.

    Attributes:
        tally: of the clients.
        reloads: of the operator.
        samples: each second.
        idle: processor seconds a second after the load.
        left: what was still there then: open streams, waiting rows, ...; and of memory the last sample.
        status: exit status after SIGTERM, None if it did not end.
        complaints: what the server logged that it should not have.
    """

    plan: Plan
    tally: Tally = field(default_factory=Tally)
    reloads: Tally = field(default_factory=Tally)
    samples: list[Sample] = field(default_factory=list)
    idle: float = float("nan")
    left: dict[str, int] = field(default_factory=dict)
    status: int | None = None
    complaints: Counter[str] = field(default_factory=Counter)


async def soak(source: Path, plan: Plan) -> Result:
    """Load a server with everything, and watch it.

    Args:
        source: a store with the models `digits` and `frames`.
        plan: how long and how much.

    Raises:
        RuntimeError: the server did not start.
        OSError: it ended under the load.
    """
    result = Result(plan)
    with TemporaryDirectory(prefix="soak-") as folder:
        store = Path(folder) / "store"
        world = World(("", 0), Oracle(source), result.tally, unhurried=plan.unhurried)
        operator = Operator(world, store)
        async with serving(store, Path(folder) / "log") as server:
            world.address = await server.address()
            await _load(world, operator, server, result)
            await asyncio.sleep(plan.settling)
            before, begun = server.hold().cpu, time.monotonic()
            await asyncio.sleep(plan.idle)
            result.idle = (server.hold().cpu - before) / (time.monotonic() - begun)
            result.left = await _left(world)
            result.status = await server.stop()
            result.complaints = server.complaints()
    return result


async def _load(world: World, operator: Operator, server: ServerProcess, result: Result) -> None:
    plan, begun = result.plan, time.monotonic()
    end = begun + plan.seconds

    async def client() -> None:
        acts, weights = list(MIX), list(MIX.values())
        while time.monotonic() < end:
            (act,) = world.random.choices(acts, weights)
            await _perform(act, world, result.tally)

    async def operate() -> None:
        for number in range(plan.reloads):
            due = begun + plan.seconds * (number + 0.5) / plan.reloads
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await _perform(_reload, world, result.reloads)

    async def _reload(_: World) -> str:
        return await operator.reload()

    async def watch() -> None:
        while (now := time.monotonic()) < end:
            result.samples.append(Sample(now - begun, result.tally.acts, server.hold()))
            await asyncio.sleep(1.0)

    async with asyncio.TaskGroup() as tasks:
        for part in (*(client() for _ in range(plan.clients)), operate(), watch()):
            tasks.create_task(part)


async def _perform(act: Act, world: World, tally: Tally) -> None:
    name, begun = act.__name__.lstrip("_"), time.monotonic()
    outcome, text = "wrong", ""
    try:
        async with asyncio.timeout(BOUND_SECONDS):
            outcome = await act(world)
    except TimeoutError:
        outcome, text = "hung", f"no end after {BOUND_SECONDS:g} seconds"
    except ViolationError as error:
        text = str(error)
    except ClosedError as error:
        text = f"the connection was closed without a whole answer: {error.__cause__!r}"
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
    seconds = time.monotonic() - begun
    if text:
        tally.violated(name, outcome, text, seconds)
    else:
        tally.add(name, outcome, seconds)


async def _left(world: World) -> dict[str, int]:
    """What the server still has of the load."""
    async with Connection.to(world.address) as connection:
        status = (await connection.ask(request("GET", "/v1/status"))).json()
    return {
        "waiting requests": status["queue"]["requests"],
        "waiting rows": status["queue"]["rows"],
        "running batches": status["lanes"]["running"],
        "dead lanes": status["lanes"]["ailing"],
        "open streams": status["streams"]["open"],
    }
