"""When a request has to be answered: X-Request-Timeout, or what the settings say."""

from __future__ import annotations

import asyncio
import re
from http import HTTPStatus

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.headers import header
from service.http.middleware import since_arrival
from service.http.problems import Problem, StatusProblem, respond
from service.http.refusals import Refusal, Refusals, Refused

TIMEOUT = "X-Request-Timeout"
_HEADER = TIMEOUT.lower().encode()
_DEADLINE = "momentum.deadline"
_SECONDS = re.compile(rb"[0-9]{1,9}(\.[0-9]{1,30})?(e-[0-9]{1,3})?")  # as programs write a number
GRACE_SECONDS = 5  # for an answer that is being computed


def deadline(scope: Scope) -> float:
    """When a request has to be answered, in the event loop's time; counted from when its head had arrived,
    so that reading and decoding its body counts too.
    """
    when: float = scope[_DEADLINE]
    return when


class RequestDeadline:
    """Gives each request its deadline, and sees to it: a body that has not arrived by then is answered with
    408. What waits for a model is the engine's to refuse. A request that has no answer some seconds later,
    because it is stuck elsewhere, is given up and answered with 504.

    Args:
        app: what answers in time.
        default: seconds for requests that don't say.
        longest: the most seconds that a request may say.
        refusals: where late requests are counted.
    """

    def __init__(self, app: ASGIApp, default: float, longest: float, refusals: Refusals) -> None:
        self.app = app
        self.default = default
        self.longest = longest
        self.refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            seconds = self.set(scope)
        except Problem as problem:
            await respond(problem, scope["path"])(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        reading = whole = late = given_up = False
        timer: asyncio.TimerHandle

        def expire() -> None:
            nonlocal timer, late, given_up
            if not (reading or late):
                late = True
                timer = loop.call_later(GRACE_SECONDS, expire)
            elif task is not None:
                given_up = True
                task.cancel()

        async def watched_receive() -> Message:
            nonlocal reading, whole
            reading = not whole
            message = await receive()
            reading = False
            whole = not message.get("more_body", False)
            return message

        async def watched_send(message: Message) -> None:
            timer.cancel()  # an answer that has begun is the protocol's to see through
            await send(message)

        timer = loop.call_at(deadline(scope), expire)
        try:
            await self.app(scope, watched_receive, watched_send)
        except asyncio.CancelledError:
            if not given_up or task is None or task.uncancel():
                raise
            response = self._refuse_body(scope, seconds) if reading else self.refuse(scope, seconds)
            await response(scope, receive, send)
        finally:
            timer.cancel()

    def set(self, scope: Scope) -> float:
        """Give a request its deadline; returns how many seconds it has.

        Raises:
            Problem: what it says is no time that it may have.
        """
        seconds = self._seconds(header(scope, _HEADER))
        scope[_DEADLINE] = asyncio.get_running_loop().time() + seconds - since_arrival(scope)
        return seconds

    def refuse(self, scope: Scope, seconds: float) -> Response:
        """The answer to a request that is stuck."""
        problem = Problem(
            HTTPStatus.GATEWAY_TIMEOUT,
            "Deadline exceeded",
            f"there was no answer within {seconds:g} seconds",
        )
        return Refused(Refusal.DEADLINE, problem, {"Connection": "close"}).counted_response(
            scope, self.refusals
        )

    def _refuse_body(self, scope: Scope, seconds: float) -> Response:
        problem = StatusProblem(
            HTTPStatus.REQUEST_TIMEOUT,
            f"the body had not arrived {seconds:g} seconds after the head",
            f"all of it, or the seconds that it takes in {TIMEOUT}: at most {self.longest:g}",
        )
        return Refused(Refusal.BODY_TIMEOUT, problem, {"Connection": "close"}).counted_response(
            scope, self.refusals
        )

    def _seconds(self, sent: bytes | None) -> float:
        if sent is None:
            return self.default
        if _SECONDS.fullmatch(sent) and 0 < (seconds := float(sent)) <= self.longest:
            return seconds
        raise Problem(
            HTTPStatus.BAD_REQUEST,
            "Invalid timeout",
            f"the header {TIMEOUT} is {sent[:32].decode('latin-1')!r}",
            f"seconds in decimals, more than 0 and at most {self.longest:g}",
        )
