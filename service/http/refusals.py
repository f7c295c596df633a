"""Why requests got no answer of their own: what the server counts of it."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import TypeAlias

from starlette.responses import Response
from starlette.types import Scope

from service.http.problems import Problem, respond


class Refusal(StrEnum):
    """A reason, as a metric's label has it."""

    CONNECTIONS = "connections"  # 429: as many connections are open as may be
    HEAD_TOO_LARGE = "head_too_large"  # 431; trailers count too
    HEAD_TIMEOUT = "head_timeout"  # 408: the head did not arrive in time
    PIPELINED = "pipelined"  # 429: as many requests of a connection wait for the answer to the first as may
    INVALID_HTTP = "invalid_http"  # 400: what arrived is not HTTP
    UNAUTHORIZED = "unauthorized"  # 401: no key, or an unknown one
    FORBIDDEN = "forbidden"  # 403: the key does not allow it
    RATE_LIMITED = "rate_limited"  # 429: the key's own limit, not overload
    BODY_TOO_LARGE = "body_too_large"  # 413
    BODIES = "bodies"  # 429: the bodies of all requests together have as many bytes as they may
    DECODERS = "decoders"  # 429: as many images and recordings wait to be decoded, or heard, as may
    BODY_TIMEOUT = "body_timeout"  # 408: the body did not arrive by the deadline
    DEADLINE = "deadline"  # 504: not answered by the deadline, and not by the engine's doing
    CLIENT_LEFT = "client_left"  # 499: nobody was left to read the answer
    ANSWER_STALLED = "answer_stalled"  # cut off: the client did not take its answer


Refusals: TypeAlias = Counter[Refusal]


class Refused(Exception):  # noqa: N818 - it ends in a problem
    """A request that is not let through.

    Args:
        reason: what it is counted as.
        problem: what it is told.
        headers: of the answer.
    """

    def __init__(self, reason: Refusal, problem: Problem, headers: dict[str, str]) -> None:
        super().__init__(str(problem))
        self.reason = reason
        self.problem = problem
        self.headers = headers

    def counted_response(self, scope: Scope, refusals: Refusals) -> Response:
        """The answer, once it has been counted."""
        refusals[self.reason] += 1
        return respond(self.problem, scope["path"], self.headers)
