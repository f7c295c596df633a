"""What Ray's proxies call: it finds a replica for every request, and passes on what both sides say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http import HTTPStatus

import aiohttp
import structlog
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.counts import RequestCounts
from service.http.middleware import RequestContext
from service.http.problems import StatusProblem, respond
from service.http.refusals import Refusals
from service.ray import paths
from service.ray.leases import Lease
from service.ray.relay import Relay
from service.ray.replicas import HOP, Replicas, UnavailableError

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 1
_RAYS = {b"date", b"x-request-id"}  # which Ray's proxy adds; the id is the one that it gave the request


@serve.ingress()
class Ingress:
    """
    Args:
        models: the deployment of each.
    """

    def __init__(self, models: dict[str, DeploymentHandle]) -> None:
        self._replicas = Replicas(models)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return Gateway(self._replicas)


class Gateway:
    """An ASGI application: a reverse proxy. All checks, and all answers but to what concerns no single
    replica or finds none, are the replicas'.

    Args:
        replicas: of all models.
    """

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self._refusals, self._requests = Refusals(), RequestCounts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await Relay(self._replicas, scope, receive, send).run()
        else:
            await self._answer(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self._replicas:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        begun = False

        async def begin(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        if paths.of_a_replica(path):
            problem = StatusProblem(
                HTTPStatus.NOT_IMPLEMENTED, f"{path} is about a single server, and here may be several"
            )
            await self._refuse(problem, {}, scope, receive, send)
            return
        try:
            if path == paths.READY:
                await self._ready(scope, begin)
            else:
                await self._pass(await self._lease(path), scope, receive, begin)
        except (UnavailableError, aiohttp.ClientError, TimeoutError) as error:
            log.warning("no answer from a replica", path=path, reason=str(error))
            if begun:
                raise
            problem = StatusProblem(HTTPStatus.SERVICE_UNAVAILABLE, "no replica answers", "another attempt")
            await self._refuse(problem, {"Retry-After": str(_RETRY_SECONDS)}, scope, receive, send)

    async def _lease(self, path: str) -> Lease:
        stream = paths.stream_of(path)
        found = None if stream is None else await self._replicas.find(stream)
        return found or await self._replicas.lease(paths.model_of(path, self._replicas.models))

    async def _ready(self, scope: Scope, send: Send) -> None:
        """Ask a replica of each model; the first that is not ready answers, else the last."""
        models = self._replicas.models
        for model in models:
            async with self._replicas.request(await self._replicas.lease(model), scope, None) as answer:
                if answer.status != HTTPStatus.OK or model == models[-1]:
                    await _relay(answer, send)
                    return

    async def _pass(self, lease: Lease, scope: Scope, receive: Receive, send: Send) -> None:
        names = {name for name, _ in scope["headers"]}
        body = _body(receive) if names & {b"content-length", b"transfer-encoding"} else None
        async with self._replicas.request(lease, scope, body) as answer:
            await _relay(answer, send)

    async def _refuse(
        self, problem: StatusProblem, headers: dict[str, str], scope: Scope, receive: Receive, send: Send
    ) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await respond(problem, scope["path"], headers)(scope, receive, send)

        await RequestContext(app, self._refusals, self._requests)(scope, receive, send)


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise aiohttp.ClientConnectionError("the client has left")
        more = message.get("more_body", False)
        yield message.get("body", b"")


async def _relay(answer: aiohttp.ClientResponse, send: Send) -> None:
    headers = [(name.lower(), value) for name, value in answer.raw_headers if name.lower() not in HOP | _RAYS]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    async for chunk in answer.content.iter_any():
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body"})
