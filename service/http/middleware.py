"""What happens around every request, as plain ASGI: its id, its line in the log, the limit on its body,
uncaught errors.
"""

from __future__ import annotations

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
from service.http.refusals import Refusal, Refusals

log = structlog.get_logger(__name__)

_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_STARTS = {"http.response.start", "websocket.http.response.start"}

_process = secrets.token_hex(12)  # ids tell requests apart and keep no secret: one random number is enough
_numbers = itertools.count(1)


def new_request_id() -> str:
    """An id that no other request has: 32 hexadecimal digits."""
    return f"{_process}{next(_numbers):08x}"


class RequestContext:
    """Gives each request an id (the client's, if sane), logs the request, answers 500 to what nothing else
    caught, and adds the headers that every answer gets.

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
        except Exception:
            if scope["type"] != "http":
                raise
            log.exception("request failed")
            if status is not None:  # too late for an answer: the server has to cut the connection
                raise
            problem = StatusProblem(500, "the server failed at this request; its log has the details")
            await respond(problem, path)(scope, receive, send_more)
        finally:
            if scope["type"] == "http" or status is not None:  # streams tell of themselves
                seconds = time.perf_counter() - started
                self.requests.add(scope, status, seconds)
                self._log(scope, status, seconds)

    def _log(self, scope: Scope, status: int | None, seconds: float) -> None:
        path = scope["path"]
        tell = log.debug if path.startswith("/v2/health/") else log.info
        key = scope.get("momentum.key")
        tell(
            "request",
            method=scope.get("method", "WebSocket"),
            path=quote(path),  # decoded, it could hold a terminal's control codes
            status=status,
            milliseconds=round(1000 * seconds, 2),
            **({} if key is None else {"key": key}),
        )


class BodyLimit:
    """Refuses bodies of more than `max_bytes`: by their Content-Length, to which the server holds them, and
    while they arrive where there is none.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, refusals: Refusals) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif header(scope, b"transfer-encoding") is not None:
            await self._count(scope, receive, send)
        elif (length := int(header(scope, b"content-length") or 0)) > self.max_bytes:
            await self._refuse(str(length), scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        answered = False
        received = 0

        async def limited_receive() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self.max_bytes:
                    raise _BodyTooLargeError
            return message

        async def watched_send(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self.app(scope, limited_receive, watched_send)
        except _BodyTooLargeError:
            if answered:
                raise
            await self._refuse(f"more than {self.max_bytes}", scope, receive, send)

    async def _refuse(self, size: str, scope: Scope, receive: Receive, send: Send) -> None:
        self.refusals[Refusal.BODY_TOO_LARGE] += 1
        problem = Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "Body too large",
            f"the body has {size} bytes",
            f"at most {self.max_bytes} bytes",
        )
        await respond(problem, scope["path"], {"Connection": "close"})(scope, receive, send)


class _BodyTooLargeError(Exception):
    pass
