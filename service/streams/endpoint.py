"""WS /v1/frames/stream: what is heard, while it is said. docs/frames.md has the protocol."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, FastAPI, Response
from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send

from service.engine import Engine
from service.http.problems import StatusProblem, documented, respond
from service.settings import Settings
from service.streams.connection import Connection
from service.streams.registry import Reason, Registry
from service.streams.sequences import Sequences
from service.streams.sessions import Sessions
from service.streams.transfer import Transfer

PATH = "/v1/frames/stream"

_DRAIN_SECONDS = 5  # for what was taken to be answered

router = APIRouter(tags=["frames"])


@router.get(
    PATH,
    summary="What is heard, while it is said? (WebSocket)",
    status_code=426,
    response_class=Response,
    responses=documented(426),
)
async def upgrade() -> Response:
    """Connect here with a WebSocket, send audio as it is recorded, and get labels and segments as they are
    heard: `python -m service stream FILE` does it, and docs/frames.md has the protocol.
    """
    problem = StatusProblem(426, f"{PATH} speaks WebSocket only", "a WebSocket handshake")
    return respond(problem, PATH, {"Upgrade": "websocket", "Connection": "Upgrade"})


class Streams:
    """The WebSocket endpoint, an ASGI application, and all that has state between requests.

    Attributes:
        registry: of it all; for looking only.
        sequences: those of requests under /v2.
    """

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.registry = Registry(settings.max_streams)
        self.sequences = Sequences(engine, self.registry, settings.stream_idle_seconds)
        self._engine = engine
        self._settings = settings
        self._sessions = Sessions(engine, settings, self.registry)
        self._transfer = Transfer(engine, self._sessions, settings)
        self._stopping = False
        self._connections: dict[Connection, asyncio.Task[Any] | None] = {}

    def install(self, app: FastAPI) -> None:
        """Give the application the endpoints."""
        app.include_router(router)
        app.router.routes.append(WebSocketRoute(PATH, self))
        self._transfer.install(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry one connection."""
        connection = Connection(self._engine, self._sessions, self._settings, scope, receive, send)
        self._connections[connection] = asyncio.current_task()
        if self._stopping:
            connection.end(Reason.SHUTDOWN)
        try:
            await connection.run()
        finally:
            del self._connections[connection]

    async def shutdown(self) -> None:
        """End all streams. Live ones take no more audio, get their answers to what they sent before, if that
        takes no longer than a few seconds, and are told that the server stops.
        """
        self._stopping = True
        for connection in [*self._connections]:
            connection.drain()
        await self._wait(_DRAIN_SECONDS)
        self.registry.shutdown()
        for connection in [*self._connections]:
            connection.end(Reason.SHUTDOWN)
        await self._wait(None)

    async def _wait(self, seconds: float | None) -> None:
        """Wait for the connections to end."""
        tasks = [task for task in self._connections.values() if task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
