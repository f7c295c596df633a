"""What happens around every request, as plain ASGI: its id, its line in the log, the limit on its body,
uncaught errors.
"""

from __future__ import annotations

import re
import time
import uuid
from http import HTTPStatus
from urllib.parse import quote

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.problems import Problem, StatusProblem, respond

log = structlog.get_logger(__name__)

REQUEST_ID = "X-Request-ID"
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RequestContext:
    """Gives each request an id (the client's, if sane), logs the request, and answers 500 to what nothing
    else caught.

    The id is in the answer's X-Request-ID and in every line logged meanwhile.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = sent if _SANE_ID.fullmatch(sent) else uuid.uuid4().hex
        started = time.perf_counter()
        status: int | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_with_id)
            except ClientDisconnect:
                status = 499  # nginx's number for it; nobody is left to read an answer
            except Exception:
                log.exception("request failed")
                if status is not None:  # too late for an answer: the server has to cut the connection
                    raise
                problem = StatusProblem(500, "the server failed at this request; its log has the details")
                await respond(problem, scope["path"])(scope, receive, send_with_id)
            finally:
                level = "debug" if scope["path"].startswith("/v2/health/") else "info"
                getattr(log, level)(
                    "request",
                    method=scope["method"],
                    path=quote(scope["path"]),  # decoded, it could hold a terminal's control codes
                    status=status,
                    milliseconds=round(1000 * (time.perf_counter() - started), 2),
                )


class BodyLimit:
    """Refuses bodies of more than `max_bytes`: by their Content-Length, and while they arrive where there is
    none.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
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
            length = Headers(scope=scope).get("content-length", "")
            if length.isdecimal() and int(length) > self.max_bytes:
                raise _BodyTooLargeError
            await self.app(scope, limited_receive, watched_send)
        except _BodyTooLargeError:
            if answered:
                raise
            problem = Problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "Body too large",
                f"the body has {length or 'more than ' + str(self.max_bytes)} bytes",
                f"at most {self.max_bytes} bytes",
            )
            await respond(problem, scope["path"], {"Connection": "close"})(scope, receive, send)


class _BodyTooLargeError(Exception):
    pass
