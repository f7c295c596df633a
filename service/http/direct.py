"""Requests that are answered in the callbacks of their connection: the busiest ones, when they have arrived
whole. A task for each, and ASGI's layers around it, would take longer than all the rest.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import Scope

from service.http.access import AccessControl
from service.http.deadline import GRACE_SECONDS, RequestDeadline, deadline
from service.http.headers import content_length, header
from service.http.middleware import CLIENT_LEFT, RequestContext, arrived
from service.http.problems import answer_to
from service.http.refusals import Refusal, Refused
from service.http.routes import Answered, BareRoute, Leave, Shortcut


@dataclass(frozen=True, slots=True)
class Way:
    """To the answer.

    Attributes:
        direct: what is done around the request.
        route: of it.
        shortcut: the route's.
    """

    direct: Direct
    route: BareRoute
    shortcut: Shortcut


class Direct:
    """Does around a request what the middleware does, with the middleware's own parts. `BodyLimit` lets
    short bodies pass.

    Args:
        app: has the state, and says how errors are answered.
        routes: those of it that can answer so.
        context, access, deadlines: the middleware.
        longest: bytes that a body may have.
    """

    def __init__(
        self,
        app: FastAPI,
        routes: Sequence[BareRoute],
        context: RequestContext,
        access: AccessControl,
        deadlines: RequestDeadline,
        longest: int,
    ) -> None:
        self.app = app
        self.context = context
        self.access = access
        self.deadlines = deadlines
        self._longest = longest
        self._routes = [
            (route.path_regex, route.methods or set(), Way(self, route, route.shortcut))
            for route in routes
            if route.shortcut is not None
        ]

    def find(self, scope: Scope) -> Way | None:
        """The way of a request whose head has arrived, None if there is but the long one."""
        path, method = scope["path"], scope["method"]
        for pattern, methods, way in self._routes:
            if method in methods and (match := pattern.match(path)):
                if header(scope, b"expect") is not None or header(scope, b"transfer-encoding") is not None:
                    return None
                if content_length(scope) > self._longest:
                    return None
                scope["app"] = self.app
                scope["path_params"] = match.groupdict()
                arrived(scope)
                return way
        return None


class Exchange:
    """A request and its answer.

    Args:
        way: that `find` gave for it.
        scope: its own.
        send: is called with the answer, unless the client leaves before.
    """

    __slots__ = ("_context", "_direct", "_id", "_leave", "_scope", "_send", "_timer", "_way")

    def __init__(self, way: Way, scope: Scope, send: Callable[[Response], None]) -> None:
        self._way = way
        self._direct = way.direct
        self._scope = scope
        self._send: Callable[[Response], None] | None = send  # None when it has ended
        self._context = contextvars.Context()  # what is logged of the request has its id
        self._id = self._context.run(way.direct.context.enter, scope)
        self._leave: Leave | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, body: bytes) -> None:
        """Have the request answered."""
        self._context.run(self._begin, body)

    def disconnect(self) -> None:
        """The client has left."""
        self._stop()
        if self._end() is not None:
            self._direct.context.refusals[Refusal.CLIENT_LEFT] += 1
            self._context.run(self._direct.context.leave, self._scope, CLIENT_LEFT)

    def _begin(self, body: bytes) -> None:
        way, direct, scope = self._way, self._direct, self._scope
        loop = asyncio.get_running_loop()
        try:
            direct.access.admit(scope)
            seconds = direct.deadlines.set(scope)
            scope["route"] = way.route
            self._leave = way.shortcut.begin(scope, body, self._done)
        except Refused as refused:
            # Not within the parser's callback: the connection is not ready for an answer, or another request.
            loop.call_soon(self._done, refused.counted_response(scope, direct.access.refusals))
        except Exception as error:
            loop.call_soon(self._done, error)
        else:
            self._timer = loop.call_at(deadline(scope) + GRACE_SECONDS, self._late, seconds)

    def _done(self, answered: Answered) -> None:
        self._context.run(self._answer, answered)

    def _late(self, seconds: float) -> None:
        """It is stuck, or it would have been answered by now."""
        self._stop()
        self._answer(self._direct.deadlines.refuse(self._scope, seconds))

    def _stop(self) -> None:
        """Tell who works on it that nobody waits."""
        if self._leave is not None:
            self._leave()

    def _end(self) -> Callable[[Response], None] | None:
        """End the waiting: what sends the answer, None if there was one."""
        send, self._send = self._send, None
        self._leave = None  # it leads back here, and the collector is slow to free what does
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return send

    def _answer(self, answered: Answered) -> None:
        send = self._end()
        if send is None:
            return
        direct, scope = self._direct, self._scope
        path = scope["path"]
        if isinstance(answered, Response):
            response = answered
        else:
            try:
                response = answer_to(direct.app, scope, answered)
            except Exception:
                response = direct.context.fail(path)
        response.raw_headers = direct.context.headers(response.raw_headers, path, self._id)
        send(response)
        direct.context.leave(scope, response.status_code)
