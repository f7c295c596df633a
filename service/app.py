"""The FastAPI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from service import telemetry, v2, web
from service.digits import routes as digits
from service.engine import Engine, Limits, Model, cpus
from service.frames import routes as frames
from service.http import failures, health, openapi, problems, stack
from service.http.application import Application
from service.http.counts import RequestCounts
from service.http.decoders import Decoders
from service.http.refusals import Refusals
from service.settings import Settings
from service.streams import endpoint as streams
from service.telemetry.tracing import OFF, Tracing


def create_app(settings: Settings) -> Application:
    """Load the store's models and build the application that serves them.

    Raises:
        StoreError: an artifact is damaged or does not do what its card says.
        DeviceError: the device that was asked for can't be used.
        KeyFileError: the file of API keys can't be read.
        TracingError: traces are wanted but can't be sent.
    """
    tracing = Tracing.from_environment()
    limits = Limits(settings.queue_rows, settings.queue_bytes)
    engine = Engine(
        settings.store,
        settings.lanes,
        settings.batch_rows,
        limits,
        observers=[tracing.spans] if tracing else [],
        check=check_model,
        versions=settings.versions,
        device=settings.device,
    )
    requests, refusals = RequestCounts(), Refusals()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with Decoders(min(cpus.available(), 4), limits, refusals) as app.state.decoders:
            async with tracing or nullcontext(), engine:
                yield
                await app.state.streams.shutdown()

    app = FastAPIOffline(
        title="Momentum Serve",
        version="1",
        description="Recurrent networks accelerated by momentum, served with onnxruntime.",
        lifespan=lifespan,
        redoc_url=None,
        telemetry=tracing.config if tracing else OFF,
    )
    app.state.settings = settings
    app.state.draining = False
    app.state.refusals = refusals
    app.state.engine = engine
    app.state.streams = streams.Streams(engine, settings)
    problems.install(app)
    failures.install(app)
    digits.install(app)
    v2.install(app, engine, app.state.streams.sequences)
    app.include_router(frames.router)
    app.state.streams.install(app)
    app.include_router(health.router)
    telemetry.install(app, engine, app.state.streams.registry, requests, refusals)
    web.install(app)
    openapi.install(app, settings)
    return stack.build(app, settings, requests, refusals, traced=tracing is not None)


def check_model(model: Model) -> None:
    """Models that have endpoints of their own must be able to answer there."""
    if model.card.name == digits.MODEL:
        digits.check(model)
    if model.card.name == frames.MODEL:
        frames.check(model)
