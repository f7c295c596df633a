"""The FastAPI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline
from starlette.routing import WebSocketRoute

from service import v2
from service.digits import routes as digits
from service.engine import Engine, Model
from service.frames import routes as frames
from service.http import failures, health, problems
from service.http.middleware import BodyLimit, RequestContext
from service.settings import Settings
from service.streams import endpoint as streams


def create_app(settings: Settings) -> FastAPI:
    """Load the store's models and build the application that serves them.

    Raises:
        StoreError: an artifact is damaged or does not do what its card says.
    """
    statistics = v2.Statistics()
    engine = Engine(settings.store, settings.lanes, settings.batch_rows, observers=[statistics], check=_check)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # Few decoders: a decoded image can take hundreds of megabytes, a recording dozens.
        with ThreadPoolExecutor(min(settings.lanes, 4), thread_name_prefix="decoder") as app.state.decoders:
            async with engine:
                yield
                await app.state.streams.shutdown()

    app = FastAPIOffline(
        title="Momentum Serve",
        version="1",
        description="Recurrent networks accelerated by momentum, served with onnxruntime.",
        lifespan=lifespan,
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.draining = False
    app.state.engine = engine
    app.state.streams = streams.Streams(engine, settings)
    problems.install(app)
    failures.install(app)
    digits.install(app)
    v2.install(app, engine, app.state.streams.sequences, statistics)
    app.include_router(frames.router)
    app.include_router(streams.router)
    app.router.routes.append(WebSocketRoute(streams.PATH, app.state.streams))
    app.include_router(health.router)
    app.add_api_route("/", _front, include_in_schema=False)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(RequestContext)  # the outermost, as it is added last
    return app


def _check(model: Model) -> None:
    """Models that have endpoints of their own must be able to answer there."""
    if model.card.name == digits.MODEL:
        digits.check(model)
    if model.card.name == frames.MODEL:
        frames.check(model)


async def _front() -> RedirectResponse:
    return RedirectResponse("/docs")
