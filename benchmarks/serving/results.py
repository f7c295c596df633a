"""What was measured, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.serving.outcome import Outcome
from benchmarks.serving.raw import Raw
from benchmarks.serving.servers import Server
from benchmarks.serving.wrk import Load

BINARY, JSON = "v2-binary", "json"
DEADLINE = 1.0  # seconds, of the requests of the overload


@dataclass(frozen=True)
class Row:
    """A server under load.

    Attributes:
        server: which.
        payload: the name of the way it was asked.
        connections: that asked.
        load: what the client saw.
        cpu: processor seconds that the server used.
        others: processor seconds that neither the server nor the client used.
    """

    server: Server
    payload: str
    connections: int
    load: Load
    cpu: float
    others: float

    @property
    def cpu_ms(self) -> float:
        """Processor time of a request."""
        return 1000.0 * self.cpu / max(1, self.load.requests)


@dataclass(frozen=True)
class Lone:
    """Requests one after the other on a connection: medians in milliseconds.

    Attributes:
        raw: of a run without a server.
        answers: of the requests, by payload.
    """

    raw: float
    answers: Mapping[str, float]


@dataclass(frozen=True)
class Overload:
    """More requests than the server can answer.

    Attributes:
        capacity: answers a second under as much load as it can answer.
        rate: requests a second.
        outcome: what came of them.
    """

    capacity: float
    rate: float
    outcome: Outcome

    @property
    def goodput(self) -> float:
        """Answers a second within the deadline, as a share of the capacity."""
        return self.outcome.goodput(DEADLINE) / self.capacity


@dataclass
class Results:
    """All of it.

    Attributes:
        about: machine, versions, date and command, a sentence each.
        raw: without a server.
        rows: the servers.
        failures: contestants that could not be measured, or not to the end, and why.
        lone: if this project's server was measured.
        idle: cores that this project's server uses while nobody asks, likewise.
        overload: likewise, if it was asked for.
    """

    about: Sequence[str]
    raw: Raw
    rows: list[Row] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    lone: Lone | None = None
    idle: float | None = None
    overload: Overload | None = None

    def ours(self, payload: str, connections: int) -> float | None:
        """This project's rate."""
        for row in self.rows:
            if row.server.ours and (row.payload, row.connections) == (payload, connections):
                return row.load.rate
        return None

    def best_peer(self, connections: int) -> Row | None:
        """The fastest of the others, in whatever payload."""
        peers = [row for row in self.rows if not row.server.ours and row.connections == connections]
        return max(peers, key=lambda row: row.load.rate, default=None)

    @property
    def connections(self) -> list[int]:
        """That were tried."""
        return sorted({row.connections for row in self.rows})


@dataclass(frozen=True)
class Target:
    """What was aimed at and what came out; `met` is None where it was not measured."""

    text: str
    figure: str
    met: bool | None


def targets(results: Results) -> list[Target]:
    """What was aimed at, and whether the figures reach it."""
    raw = results.raw
    aims = [
        _share(results, BINARY, 64, 0.80, raw.best, "raw onnxruntime's best"),
        _share(results, JSON, 64, 0.70, raw.best, "raw onnxruntime's best"),
        _share(results, BINARY, 16, 0.60, raw.best, "raw onnxruntime's best"),
        _share(results, JSON, 16, 0.60, raw.best, "raw onnxruntime's best"),
        _share(results, BINARY, 1, 0.90, raw.alone, "a lone `session.run()` loop"),
    ]
    aims += [_ahead(results, payload, count) for count in results.connections for payload in (BINARY, JSON)]
    aims.append(_lone(results.lone))
    idle = results.idle
    aims.append(
        Target(
            "idle, 0.0 % of a core",
            *((f"{100 * idle:.2f} %", 100 * idle < 0.05) if idle is not None else _NONE),
        )
    )
    return [*aims, *_overload(results.overload)]


_NONE = ("not measured", None)


def _share(results: Results, payload: str, connections: int, least: float, of: float, what: str) -> Target:
    text = f"{payload}, connections: {connections}: at least {least:.2f} of {what}"
    rate = results.ours(payload, connections)
    return Target(text, *(_NONE if rate is None else (f"{rate / of:.2f}", rate / of >= least)))


def _ahead(results: Results, payload: str, connections: int) -> Target:
    text = f"{payload}, connections: {connections}: ahead of every peer"
    rate, peer = results.ours(payload, connections), results.best_peer(connections)
    if rate is None or peer is None:
        return Target(text, *_NONE)
    figure = f"{rate:.0f}/s, {peer.server.name} ({peer.payload}) {peer.load.rate:.0f}/s"
    return Target(text, figure, rate > peer.load.rate)


def _lone(lone: Lone | None) -> Target:
    text = f"a lone {BINARY} request: within 0.4 ms of raw onnxruntime"
    if lone is None:
        return Target(text, *_NONE)
    over = lone.answers[BINARY] - lone.raw
    return Target(text, f"{over:.2f} ms over {lone.raw:.2f} ms", over <= 0.4)


def _overload(overload: Overload | None) -> list[Target]:
    texts = (
        "overload: goodput at least 0.95 of capacity",
        f"overload: p99 of accepted requests at most their deadline, {1000 * DEADLINE:.0f} ms",
        "overload: every rejection a 429 with Retry-After",
    )
    if overload is None:
        return [Target(text, *_NONE) for text in texts]
    outcome = overload.outcome
    p99 = outcome.milliseconds(99)
    return [
        Target(texts[0], f"{overload.goodput:.2f}", overload.goodput >= 0.95),
        Target(texts[1], f"{p99:.0f} ms", p99 <= 1000.0 * DEADLINE),
        Target(texts[2], f"{outcome.improper} of {outcome.due} something else", outcome.improper == 0),
    ]
