"""GET /v1/status: how the server is, for people and for pages."""

from __future__ import annotations

import time
from collections.abc import Iterable
from importlib.metadata import version
from typing import Self

from fastapi import Request
from pydantic import BaseModel, Field

from exports.card import Metric
from service.engine import Engine, Model
from service.engine.statistics import RECENT_SECONDS, Statistics, quantile
from service.streams.registry import Registry
from service.telemetry.device import Device


class Lanes(BaseModel):
    """The threads that run batches."""

    count: int
    running: int = Field(description="How many run one now.")
    ailing: int = Field(description="How many died or hang.")


class Queue(BaseModel):
    """What waits."""

    requests: int
    rows: int
    bytes: int
    backlog_seconds: float = Field(
        description="How long the lanes need for what waits and runs, by the pace that was measured."
    )


class Recent(BaseModel):
    """The last seconds, without the one that has begun."""

    seconds: int = RECENT_SECONDS
    requests_per_second: float = Field(description="Answered.")
    rows_per_second: float = Field(description="Rows that ran, such as images.")
    batch_rows: float | None = Field(description="How many of them ran together, on average.")
    p50_seconds: float | None = Field(description="Half of the requests took no longer in the engine.")
    p99_seconds: float | None = Field(description="99 of 100 requests took no longer in the engine.")

    @classmethod
    def of(cls, statistics: Statistics, models: Iterable[tuple[str, str]]) -> Self:
        """That of these versions together."""
        recent = statistics.recent(models)
        return cls(
            requests_per_second=sum(recent.counts) / RECENT_SECONDS,
            rows_per_second=recent.rows / RECENT_SECONDS,
            batch_rows=recent.rows / recent.batches if recent.batches else None,
            p50_seconds=quantile(recent.counts, 0.5),
            p99_seconds=quantile(recent.counts, 0.99),
        )


class ModelStatus(BaseModel):
    """The newest version of a model that is ready."""

    name: str
    version: str
    task: str
    description: str
    metrics: list[Metric] = Field(description="How good it is, as its card says.")
    answered: int = Field(description="Requests since the server was started.")
    failed: int = Field(description="Requests that were refused, given up, or went wrong.")
    in_flight: int = Field(description="Requests that wait or run.")
    recent: Recent

    @classmethod
    def of(cls, model: Model, statistics: Statistics) -> Self:
        """That of a model."""
        card = model.card
        done = statistics.of(card.name, card.version)
        return cls(
            name=card.name,
            version=card.version,
            task=card.task,
            description=card.description,
            metrics=card.metrics,
            answered=done.request.count,
            failed=sum(done.failures.values()),
            in_flight=done.in_flight,
            recent=Recent.of(statistics, [(card.name, card.version)]),
        )


class StreamCounts(BaseModel):
    """Live streams, and sequences under /v2."""

    open: int
    opened: int = Field(description="Since the server was started.")


class Status(BaseModel):
    """How the server is."""

    version: str
    uptime_seconds: float
    ready: bool
    problems: list[str] = Field(description="What is not as it should be, though requests may be answered.")
    device: Device
    lanes: Lanes
    queue: Queue
    recent: Recent
    models: list[ModelStatus]
    streams: StreamCounts


class Overview:
    """The endpoint.

    Args:
        engine: runs the models.
        device: on which.
        streams: all of them.
    """

    def __init__(self, engine: Engine, device: Device, streams: Registry) -> None:
        self._engine = engine
        self._device = device
        self._streams = streams
        self._version = version("momentum-serve")
        self._begun = time.monotonic()

    async def __call__(self, request: Request) -> Status:
        """The models and how good they are, what the server runs on, and what it does: how much it answers,
        how fast, and what waits.
        """
        engine, scheduler, statistics = self._engine, self._engine.scheduler, self._engine.statistics
        draining: bool = request.app.state.draining
        return Status(
            version=self._version,
            uptime_seconds=time.monotonic() - self._begun,
            ready=engine.ready and not draining,
            problems=["draining"] * draining + engine.problems,
            device=self._device,
            lanes=Lanes(count=engine.lanes, running=scheduler.running, ailing=engine.ailing),
            queue=Queue(
                requests=len(scheduler.queue),
                rows=scheduler.queue.rows,
                bytes=scheduler.queue.nbytes,
                backlog_seconds=scheduler.backlog(),
            ),
            recent=Recent.of(statistics, statistics.versions),
            models=[ModelStatus.of(model, statistics) for model in engine.models.values()],
            streams=StreamCounts(open=len(self._streams), opened=self._streams.opened.total()),
        )
