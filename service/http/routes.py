"""Routes for what has to be fast."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from service.engine import Tensor
from service.engine.batching import Answer
from service.engine.futures import settle

T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]

Answered: TypeAlias = Response | Exception
Done: TypeAlias = Callable[[Answered], None]
Leave: TypeAlias = Callable[[], object]
Begin: TypeAlias = Callable[[Scope, bytes, Done], Leave]

_UNWATCHED_SECONDS = 0.05


def _takes_all(_: Scope, __: bytes) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Shortcut:
    """An endpoint that calls back, and needs no task. Its answers are whole: no streams, no background work.

    Attributes:
        begin: is given the scope and the whole body, raises what is wrong with the request at once, and
            returns what is to be called when nobody waits for the answer any more. It calls back when it has
            returned, not before.
        takes: whether it answers a request; else the endpoint does.
    """

    begin: Begin
    takes: Callable[[Scope, bytes], bool] = _takes_all


class BareRoute(APIRoute):
    """A route whose endpoint takes the request and gives the response, with nothing of FastAPI's between:
    no dependencies, no validation, no serialization. Path parameters are in `request.path_params`, as text.
    What the documentation is to say of parameters and body goes into `openapi_extra`.

    With a shortcut it needs no task for what arrives whole: see `Direct`.

    It has to be one of the application's own routes (`add`): a router that is included makes its own way to
    the endpoint.
    """

    def __init__(
        self, path: str, endpoint: Endpoint, shortcut: Shortcut | None = None, **options: Any
    ) -> None:
        super().__init__(path, endpoint, **options)
        self.shortcut = shortcut
        self.bare_endpoint = endpoint

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            response = await endpoint(Request(scope, receive, send))
            await response(scope, receive, send)

        self.app = app

    @classmethod
    def add(
        cls, app: FastAPI, path: str, endpoint: Endpoint, shortcut: Shortcut | None = None, **options: Any
    ) -> None:
        """Give the application such a route. Routes are tried in their order: add the busiest first."""
        app.router.routes.append(cls(path, endpoint, shortcut, **options))


async def answer(begin: Callable[[Done], Leave]) -> Response:
    """Wait for an endpoint that calls back. Cancelling the wait tells it that nobody waits."""
    answered: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
    leave = begin(partial(settle, answered))
    del begin  # what has to wait of the request, the endpoint keeps
    try:
        return await answered
    except asyncio.CancelledError:
        leave()
        raise


def in_task(work: Coroutine[Any, Any, Response], done: Done) -> Leave:
    """The rest of an endpoint that calls back, where that has to wait for several things."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)

    def ended(task: asyncio.Task[Response]) -> None:
        if not task.cancelled():
            error = task.exception()
            done(error if isinstance(error, Exception) else task.result())

    task.add_done_callback(ended)
    # Not before the work has begun: it would not get to know of it.
    return partial(loop.call_soon, task.cancel)


def rendered(done: Done, outputs: Answer, render: Callable[[dict[str, Tensor]], Response]) -> None:
    """Call back with what is made of the engine's answer, or with why there is none."""
    if isinstance(outputs, Exception):
        done(outputs)
        return
    try:
        response = render(outputs)
    except Exception as error:
        done(error)
    else:
        done(response)


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
