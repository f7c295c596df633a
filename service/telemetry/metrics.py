"""GET /metrics: what the engine, its streams and HTTP have counted, for Prometheus. docs/metrics.md lists it
all.

Nothing is counted for Prometheus' sake: what there is is read when it asks.
"""

from __future__ import annotations

import asyncio
import platform
import time
from collections import Counter
from collections.abc import Iterable
from importlib.metadata import version

from fastapi import Request, Response
from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from service.engine import Engine
from service.engine.statistics import FAILURES, VersionStatistics
from service.http.counts import RequestCounts
from service.http.refusals import Refusal, Refusals
from service.streams.registry import Kind, Reason, Registry, Stream
from service.streams.session import Session
from service.telemetry import triton
from service.telemetry.device import Device
from service.telemetry.families import counter, durations, gauge, sizes

_MODEL = ("model", "version")


class Metrics:
    """The endpoint.

    Args:
        engine: runs the models.
        device: on which.
        streams: all of them.
        requests: counts those of HTTP.
        refusals: counts what was refused before it came to a route.
    """

    def __init__(
        self,
        engine: Engine,
        device: Device,
        streams: Registry,
        requests: RequestCounts,
        refusals: Refusals,
    ) -> None:
        self._lag = _Lag()
        self._registry = CollectorRegistry()
        for collector in (
            _EngineMetrics(engine, device),
            _StreamMetrics(streams),
            _HTTPMetrics(requests, refusals),
            self._lag,
        ):
            self._registry.register(collector)
        ProcessCollector(registry=self._registry)

    async def __call__(self, request: Request) -> Response:
        """For Prometheus, in its text format or as OpenMetrics, as it asks for: what has been counted since
        the server was started, and what waits and runs now. docs/metrics.md explains each metric.
        """
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        await self._lag.measure()
        return Response(encode(self._registry), media_type=media_type)


class _Lag(Collector):
    """How far behind the event loop is, measured when it is asked: that costs nothing in between."""

    def __init__(self) -> None:
        self._seconds = 0.0

    async def measure(self) -> None:
        begin = time.perf_counter()
        await asyncio.sleep(0)
        self._seconds = time.perf_counter() - begin

    def collect(self) -> Iterable[Metric]:
        text = "What the event loop had to do, at this scrape, before it came to the next task"
        yield gauge("momentum_event_loop_lag_seconds", text, (), {(): self._seconds})


class _EngineMetrics(Collector):
    def __init__(self, engine: Engine, device: Device) -> None:
        self._engine = engine
        self._device = device.model_dump()
        self._build = {"version": version("momentum-serve"), "python": platform.python_version()}

    def collect(self) -> Iterable[Metric]:
        loaded = self._engine.repository.served
        statistics = self._engine.statistics
        statistics.prune()
        versions = {key: statistics.of(*key) for key in sorted(loaded | statistics.versions.keys())}
        yield from self._about(loaded)
        yield from self._now()
        yield from _requests(versions)
        yield from _durations(versions)
        waiting = (request.layout.model.card for request in self._engine.scheduler.queue)
        yield from triton.metrics(versions, Counter((card.name, card.version) for card in waiting))

    def _about(self, loaded: set[tuple[str, str]]) -> Iterable[Metric]:
        engine = self._engine
        yield InfoMetricFamily("momentum_build", "The server's version", self._build)
        yield InfoMetricFamily("momentum_device", "What the models run on", self._device)
        yield gauge("momentum_ready", "Whether the engine is ready, 1 or 0", (), {(): engine.ready})
        yield gauge(
            "momentum_model_ready",
            "Versions of models that new requests can get",
            _MODEL,
            dict.fromkeys(sorted(loaded), 1),
        )
        yield gauge(
            "momentum_model_broken",
            "Versions in the store that can't be served; readiness says why",
            _MODEL,
            {(name, number): 1 for name, number, _ in engine.repository.problems},
        )
        text = "Whether the store can be read, 1 or 0; what was loaded is served on"
        yield gauge("momentum_store_readable", text, (), {(): engine.repository.unread is None})
        loads = engine.repository.loads
        yield counter(
            "momentum_model_loads",
            "Versions that were loaded, or could not be",
            ("outcome",),
            {(outcome,): loads[outcome] for outcome in ("loaded", "failed")},
        )
        yield counter(
            "momentum_model_load_seconds",
            "What these loads took, together",
            (),
            {(): engine.repository.load_seconds},
        )

    def _now(self) -> Iterable[Metric]:
        engine, scheduler = self._engine, self._engine.scheduler
        queue, oldest = scheduler.queue, scheduler.queue.oldest
        age = 0.0 if oldest is None else time.monotonic() - oldest
        backlog = "How long the lanes need for what waits and runs, by the pace that was measured"
        for name, text, value in (
            ("queue_rows", "Rows that wait", queue.rows),
            ("queue_requests", "Requests that wait", len(queue)),
            ("queue_bytes", "Size of the inputs that wait", queue.nbytes),
            ("queue_oldest_seconds", "For how long the oldest of them has waited", age),
            ("backlog_seconds", backlog, scheduler.backlog()),
            ("batches_running", "Batches that run", scheduler.running),
            ("lanes", "Threads that run batches", engine.lanes),
            ("lanes_ailing", "Those of them that died or hang", engine.ailing),
        ):
            yield gauge(f"momentum_{name}", text, (), {(): value})


_Versions = dict[tuple[str, str], VersionStatistics]


def _requests(versions: _Versions) -> Iterable[Metric]:
    text = "Requests to models by how they ended: success, or why not"
    outcomes: dict[tuple[str, ...], float] = {}
    for key, done in versions.items():
        outcomes[*key, "success"] = done.request.count
        outcomes |= {(*key, reason): done.failures[reason] for reason in FAILURES}
    yield counter("momentum_requests", text, (*_MODEL, "outcome"), outcomes)
    rows = {key: done.rows for key, done in versions.items()}
    yield counter("momentum_rows", "Rows that ran", _MODEL, rows)
    failed = {key: done.failed_batches for key, done in versions.items()}
    yield counter("momentum_batches_failed", "Batches that were run and failed", _MODEL, failed)
    in_flight = {key: done.in_flight for key, done in versions.items()}
    yield gauge("momentum_requests_in_flight", "Requests that wait or run", _MODEL, in_flight)


def _durations(versions: _Versions) -> Iterable[Metric]:
    for name, text, histograms in (
        ("request", "From a request's admission to its answer", {k: v.request for k, v in versions.items()}),
        ("queue", "Of that, until a lane took it", {k: v.queue for k, v in versions.items()}),
        ("compute", "Of that, from then on", {k: v.compute for k, v in versions.items()}),
    ):
        yield durations(f"momentum_{name}_duration_seconds", text, _MODEL, histograms)
    rows = {key: {rows: count for rows, (count, _) in v.batches.items()} for key, v in versions.items()}
    yield sizes("momentum_batch_rows", "Rows that ran together", _MODEL, rows)


class _StreamMetrics(Collector):
    def __init__(self, streams: Registry) -> None:
        self._streams = streams

    def collect(self) -> Iterable[Metric]:
        streams = self._streams
        states = {(Kind.LIVE, "disconnected"): 0}
        states |= {(kind, state): 0 for kind in Kind for state in ("busy", "idle")}
        for stream in streams.open:
            states[stream.kind, _state(stream)] += 1
        yield gauge("momentum_streams_open", "Streams and sequences now", ("kind", "state"), states)
        for name, text, counts in (
            ("momentum_streams_opened", "Streams begun", streams.opened),
            ("momentum_streams_rejected", "Streams refused, as too many were open", streams.rejected),
        ):
            yield counter(name, text, ("kind",), {(kind,): counts[kind] for kind in Kind})
        reasons = [reason for reason in Reason if reason is not Reason.TAKEN_OVER]  # no stream ends in that
        yield counter(
            "momentum_streams_ended",
            "Streams ended, by reason",
            ("kind", "reason"),
            {(kind, reason): streams.ended[kind, reason] for kind in Kind for reason in reasons},
        )
        text = "Times that another connection went on with a live stream"
        yield counter("momentum_streams_resumed", text, (), {(): streams.resumed})


def _state(stream: Stream) -> str:
    if isinstance(stream, Session) and stream.listener is None:
        return "disconnected"
    return "busy" if stream.busy else "idle"


class _HTTPMetrics(Collector):
    def __init__(self, requests: RequestCounts, refusals: Refusals) -> None:
        self._requests = requests
        self._refusals = refusals

    def collect(self) -> Iterable[Metric]:
        answered = {
            (route, method, str(status)): count
            for (route, method, status), count in self._requests.answered.items()
        }
        yield counter("momentum_http_requests", "HTTP requests", ("route", "method", "status"), answered)
        yield durations(
            "momentum_http_request_duration_seconds",
            "From the head of a request to the end of its answer",
            ("route",),
            {(route,): histogram for route, histogram in self._requests.durations.items()},
        )
        yield counter(
            "momentum_http_refusals",
            "Requests and connections that were refused, or gave up, on the way to a model",
            ("reason",),
            {(reason,): self._refusals[reason] for reason in Refusal},
        )
