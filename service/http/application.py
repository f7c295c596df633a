"""The application: FastAPI with its middleware around it, and a short way to the busiest endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI, Request
from starlette.datastructures import State
from starlette.types import ASGIApp, Receive, Scope, Send

from service.http.direct import Direct
from service.http.problems import answer_to
from service.http.routes import BareRoute


class Application:
    """What the server calls for every connection.

    Args:
        fastapi: has the routes and the state, and is told when the server begins and ends.
        front: answers requests.
        direct: answers some of them without ASGI, None if none.
    """

    def __init__(self, fastapi: FastAPI, front: ASGIApp, direct: Direct | None = None) -> None:
        self.fastapi = fastapi
        self.direct = direct
        self._front = front

    @property
    def state(self) -> State:
        """What the parts of the application share."""
        return self.fastapi.state

    def running(self) -> AbstractAsyncContextManager[object]:
        """What has to be so while requests are answered."""
        return self.fastapi.router.lifespan_context(self.fastapi)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.fastapi if scope["type"] == "lifespan" else self._front
        await app(scope, receive, send)


class ShortWay:
    """Calls some routes without FastAPI's and Starlette's own layers between, which take longer than such a
    route does itself; and FastAPI for all else. What these routes raise is answered as
    FastAPI would.

    Args:
        fastapi: the application.
        routes: those that are called here.
    """

    def __init__(self, fastapi: FastAPI, routes: Sequence[BareRoute]) -> None:
        self.fastapi = fastapi
        self._routes = [(route.path_regex, route.methods or set(), route) for route in routes]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path, method = scope["path"], scope["method"]
            for pattern, methods, route in self._routes:
                if method in methods and (match := pattern.match(path)):
                    scope["app"] = self.fastapi
                    scope["route"] = route
                    scope["path_params"] = match.groupdict()
                    await self._call(route, scope, receive, send)
                    return
        await self.fastapi(scope, receive, send)

    async def _call(self, route: BareRoute, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            response = await route.bare_endpoint(request)
        except Exception as error:
            response = answer_to(self.fastapi, scope, error)
        await response(scope, receive, send)
