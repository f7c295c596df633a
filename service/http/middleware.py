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
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.counts import RequestCounts
from service.http.headers import header, secured
from service.http.problems import Problem, StatusProblem, respond
from service.http.refusals import Refusal, Refusals, Refused

log = structlog.get_logger(__name__)

_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_READ_BYTES = 2**16
_STARTS = {"http.response.start", "websocket.http.response.start"}

_process = secrets.token_hex(12)  # ids tell requests apart and keep no secret: one random number is enough
_numbers = itertools.count(1)


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
        sent = header(scope, b"x-request-id")
        request_id = sent.decode() if sent is not None and _SANE_ID.fullmatch(sent) else new_request_id()
        path: str = scope["path"]
        started = time.perf_counter()
        status: int | None = None

        async def send_more(message: Message) -> None:
            nonlocal status
            if message["type"] in _STARTS:
                status = message["status"]
                message["headers"] = secured(message.get("headers", ()), path)
                message["headers"].append((b"x-request-id", request_id.encode()))
            await send(message)

        # Nothing unbinds it: the server has a task for each request, and its own context.
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            await self.app(scope, receive, send_more)
        except ClientDisconnect:
            status = 499  # nginx's number for it; nobody is left to read an answer
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
            log.exception("request failed")
            if status is not None:  # too late for an answer: the server has to cut the connection
                raise
            problem = StatusProblem(
                HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed at this request; its log has the details"
            )
            await respond(problem, path)(scope, receive, send_more)
        finally:
            if scope["type"] == "http" or status is not None:  # streams tell of themselves
                seconds = time.perf_counter() - started
                self.requests.add(scope, status, seconds)
                self._log(scope, status, seconds)

    def _log(self, scope: Scope, status: int | None, seconds: float) -> None:
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
        elif (length := int(header(scope, b"content-length") or 0)) > self.max_bytes:
            await self._refuse(self._too_large(str(length)), scope, receive, send)
        elif length > _READ_BYTES:
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
        return Refused(Refusal.BODY_TOO_LARGE, problem, {})

    def _too_many(self) -> Refused:
        problem = Problem(
            HTTPStatus.TOO_MANY_REQUESTS,
            "Overloaded",
            f"the bodies of all requests together would have more than {self.all_bytes} bytes",
        )
        return Refused(Refusal.BODIES, problem, {"Retry-After": "1"})

    async def _refuse(self, refused: Refused, scope: Scope, receive: Receive, send: Send) -> None:
        self.refusals[refused.reason] += 1
        response = respond(refused.problem, scope["path"], {"Connection": "close"} | refused.headers)
        await response(scope, receive, send)
