"""Routes for what has to be fast."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]

_UNWATCHED_SECONDS = 0.05


class BareRoute(APIRoute):
    """A route whose endpoint takes the request and gives the response, with nothing of FastAPI's between:
    no dependencies, no validation, no serialization. Path parameters are in `request.path_params`, as text.
    What the documentation is to say of parameters and body goes into `openapi_extra`.

    It has to be one of the application's own routes (`add`): a router that is included makes its own way to
    the endpoint.
    """

    def __init__(self, path: str, endpoint: Endpoint, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.bare_endpoint = endpoint

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            response = await endpoint(Request(scope, receive, send))
            await response(scope, receive, send)

        self.app = app

    @classmethod
    def add(cls, app: FastAPI, path: str, endpoint: Endpoint, **options: Any) -> None:
        """Give the application such a route. Routes are tried in their order: add the busiest first."""
        app.router.routes.append(cls(path, endpoint, **options))


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await what the client waits for, or cancel it when the client is gone.

    The first moments are not watched: most answers are there before, and a watch costs a task.

    Args:
        request: whose body has been read.
        work: what is to be awaited.

    Raises:
        ClientDisconnect: the client is gone.
    """
    gone = False
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    watcher: asyncio.Task[None] | None = None

    def begin() -> None:
        nonlocal watcher
        watcher = loop.create_task(watch())

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        if task is not None:
            task.cancel()

    timer = loop.call_later(_UNWATCHED_SECONDS, begin)
    try:
        return await work
    except asyncio.CancelledError:
        if gone and task is not None and not task.uncancel():
            raise ClientDisconnect from None
        raise
    finally:
        timer.cancel()
        if watcher is not None:
            watcher.cancel()
