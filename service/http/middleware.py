"""What happens around every request, as plain ASGI: its id, its line in the log, the limit on its body,
uncaught errors.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
import time
from http import HTTPStatus
from urllib.parse import quote

import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.counts import RequestCounts
from service.http.headers import RawHeaders, content_length, header, secured
from service.http.problems import Problem, StatusProblem, respond
from service.http.refusals import Refusal, Refusals, Refused

log = structlog.get_logger(__name__)

_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
READ_BYTES = 2**16  # what a connection may hold of a body before it is asked for
CLIENT_LEFT = 499  # nginx's number for it; nobody is left to read an answer
_STARTS = {"http.response.start", "websocket.http.response.start"}

_ARRIVED = "momentum.arrived"

_process = secrets.token_hex(12)  # ids tell requests apart and keep no secret: one random number is enough
_numbers = itertools.count(1)


def arrived(scope: Scope) -> None:
    """A request's head is there, though it may be looked at later: its time counts from the first call."""
    scope.setdefault(_ARRIVED, time.perf_counter())


def since_arrival(scope: Scope) -> float:
    """Seconds since then."""
    return time.perf_counter() - float(scope.get(_ARRIVED, time.perf_counter()))


def new_request_id() -> str:
    """An id that no other request has: 32 hexadecimal digits."""
    return f"{_process}{next(_numbers):08x}"


class RequestContext:
    """Gives each request an id (the client's, if sane), logs the request, answers 500 to what nothing else
    caught and 503 to what has to end with the server, and adds the headers that every answer gets.

    The id is in the answer's X-Request-ID and in every line logged meanwhile. The key's name is in the
    request's line if `scope["momentum.key"]` has one.
    """

    def __init__(self, app: ASGIApp, refusals: Refusals, requests: RequestCounts) -> None:
        self.app = app
        self.refusals = refusals
        self.requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        request_id = self.enter(scope)
        path: str = scope["path"]
        status: int | None = None

        async def send_more(message: Message) -> None:
            nonlocal status
            if message["type"] in _STARTS:
                status = message["status"]
                message["headers"] = self.headers(message.get("headers", ()), path, request_id)
            await send(message)

        try:
            await self.app(scope, receive, send_more)
        except ClientDisconnect:
            status = CLIENT_LEFT
            self.refusals[Refusal.CLIENT_LEFT] += 1
        except asyncio.CancelledError:  # the server waits no longer; what else is cancelled does not get here
            if scope["type"] != "http":
                raise
            if status is None:
                problem = Problem(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    "Stopping",
                    "the server is stopping, and the request was not done by then",
                    "the same request at another server, or when this one is back",
                )
                await respond(problem, path, {"Connection": "close"})(scope, receive, send_more)
        except Exception:
            if scope["type"] != "http":
                raise
            response = self.fail(path)
            if status is not None:  # too late for an answer: the server has to cut the connection
                raise
            await response(scope, receive, send_more)
        finally:
            if scope["type"] == "http" or status is not None:  # streams tell of themselves
                self.leave(scope, status)

    def enter(self, scope: Scope) -> str:
        """A request has come: its id, which every line has that is logged from now on in this context.
        Nothing unbinds it: each request has a context of its own.
        """
        arrived(scope)
        sent = header(scope, b"x-request-id")
        request_id = sent.decode() if sent is not None and _SANE_ID.fullmatch(sent) else new_request_id()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        return request_id

    def headers(self, headers: RawHeaders, path: str, request_id: str) -> list[tuple[bytes, bytes]]:
        """The headers of an answer, with those that all answers have."""
        return [*secured(headers, path), (b"x-request-id", request_id.encode())]

    def fail(self, path: str) -> Response:
        """Log the exception that is being handled: the answer to a request that failed with it."""
        log.exception("request failed")
        detail = "the server failed at this request; its log has the details"
        return respond(StatusProblem(HTTPStatus.INTERNAL_SERVER_ERROR, detail), path)

    def leave(self, scope: Scope, status: int | None) -> None:
        """A request has been answered, or has ended without an answer: count it, and log its line."""
        seconds = since_arrival(scope)
        self.requests.add(scope, status, seconds)
        path = scope["path"]
        tell = log.debug if path.startswith("/v2/health/") else log.info
        key, client = scope.get("momentum.key"), scope.get("client")
        tell(
            "request",
            method=scope.get("method", "WebSocket"),
            path=quote(path),  # decoded, it could hold a terminal's control codes
            status=status,
            milliseconds=round(1000 * seconds, 2),
            client=client and client[0],
            **({} if key is None else {"key": key}),
        )


class BodyLimit:
    """Refuses bodies of more than `max_bytes`: by their Content-Length, to which the server holds them, and
    while they arrive where there is none. Refuses those with which all bodies together would be more than
    `all_bytes`; what has arrived of a body counts until its request has ended. Short bodies don't count:
    there are no more than connections, each of which may hold as much before it is asked for.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, all_bytes: int, refusals: Refusals) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.all_bytes = max(max_bytes, all_bytes)  # or the longest could never be sent
        self.refusals = refusals
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif header(scope, b"transfer-encoding") is not None:
            await self._count(scope, receive, send)
        elif (length := content_length(scope)) > self.max_bytes:
            await self._refuse(self._too_large(str(length)), scope, receive, send)
        elif length > READ_BYTES:
            await self._count(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        answered = False
        received = 0

        async def limited_receive() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                size = len(message.get("body", b""))
                received += size
                self._held += size
                if received > self.max_bytes:
                    raise self._too_large(f"more than {self.max_bytes}")
                if self._held > self.all_bytes:
                    raise self._too_many()
            return message

        async def watched_send(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self.app(scope, limited_receive, watched_send)
        except Refused as refused:
            if answered:
                raise
            await self._refuse(refused, scope, receive, send)
        finally:
            self._held -= received

    def _too_large(self, size: str) -> Refused:
        problem = Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "Body too large",
            f"the body has {size} bytes",
            f"at most {self.max_bytes} bytes",
        )
        return Refused(Refusal.BODY_TOO_LARGE, problem, {"Connection": "close"})

    def _too_many(self) -> Refused:
        problem = Problem(
            HTTPStatus.TOO_MANY_REQUESTS,
            "Overloaded",
            f"the bodies of all requests together would have more than {self.all_bytes} bytes",
        )
        return Refused(Refusal.BODIES, problem, {"Connection": "close", "Retry-After": "1"})

    async def _refuse(self, refused: Refused, scope: Scope, receive: Receive, send: Send) -> None:
        await refused.counted_response(scope, self.refusals)(scope, receive, send)
