"""Who may do what: API keys and their limits, by the path of a request."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from service.http.headers import header
from service.http.keys import Access, Key, Keys
from service.http.problems import Problem, StatusProblem, respond
from service.http.ratelimit import TokenBucket
from service.http.refusals import Refusal, Refusals

# Probes, the page, the documentation and the metrics tell nothing that a key would have to keep.
_OPEN = re.compile(
    r"/(|web/.*|docs|docs/.*|static-offline-docs/.*|openapi\.json|metrics|v1/status|v2/health/.*)"
)
_ADMIN = re.compile(r"/v2/repository/.*")
_OWN = re.compile(
    r"/v1/streams/[^/]*/state"
)  # the stream's own token, or an admin's key: it looks for itself


class AccessControl:
    """Asks for a key, `Authorization: Bearer KEY` or `X-API-Key: KEY`, and keeps its owner to its limits.
    Without a file of keys, everybody may use the models, and clients on this machine may administer them.

    Args:
        app: what answers those who may.
        keys: of the file; None without one.
        clock: seconds, which never go back.
        refusals: where the others are counted.
    """

    def __init__(
        self, app: ASGIApp, keys: Keys | None, clock: Callable[[], float], refusals: Refusals
    ) -> None:
        self.app = app
        self.keys = keys
        self.clock = clock
        self.refusals = refusals
        self._buckets: dict[str, TokenBucket] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        try:
            self._admit(scope)
        except _Refused as refused:
            self.refusals[refused.reason] += 1
            await respond(refused.problem, scope["path"], refused.headers)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        path: str = scope["path"]
        if self.keys is None:
            if _ADMIN.fullmatch(path) and not _is_local(scope):
                raise _Refused(
                    Refusal.FORBIDDEN,
                    StatusProblem(
                        HTTPStatus.FORBIDDEN,
                        "without API keys, only clients on the server's own machine may administer it",
                        "a key with the scope admin: start the server with --api-keys",
                    ),
                )
            return
        if _OPEN.fullmatch(path):
            return
        key = self._key(scope)
        scope["momentum.admin"] = key is not None and Access.ADMIN in key.scopes
        if _OWN.fullmatch(path):
            return
        if key is None:
            raise _Refused(
                Refusal.UNAUTHORIZED,
                StatusProblem(
                    HTTPStatus.UNAUTHORIZED,
                    "the request has no API key that this server knows",
                    "Authorization: Bearer KEY, or X-API-Key: KEY",
                ),
                {"WWW-Authenticate": "Bearer"},
            )
        scope["momentum.key"] = key.name
        needed = Access.ADMIN if _ADMIN.fullmatch(path) else Access.INFER
        if needed not in key.scopes:
            raise _Refused(
                Refusal.FORBIDDEN,
                StatusProblem(
                    HTTPStatus.FORBIDDEN,
                    f"the key {key.name} has the scopes {', '.join(sorted(key.scopes))}",
                    f"a key with the scope {needed}",
                ),
            )
        self._take(key)

    def _key(self, scope: Scope) -> Key | None:
        authorization = header(scope, b"authorization") or b""
        kind, _, sent = authorization.partition(b" ")
        if kind.lower() != b"bearer":
            sent = header(scope, b"x-api-key") or b""
        return self.keys.find(sent.strip()) if sent and self.keys is not None else None

    def _take(self, key: Key) -> None:
        if key.rate is None:
            return
        now = self.clock()
        burst = key.burst or max(1, math.ceil(key.rate))
        bucket = self._buckets.get(key.name)
        if bucket is None or (bucket.rate, bucket.burst) != (key.rate, burst):
            bucket = self._buckets[key.name] = TokenBucket(key.rate, burst, now)
        wait = bucket.take(now)
        if wait:
            raise _Refused(
                Refusal.RATE_LIMITED,
                Problem(
                    HTTPStatus.TOO_MANY_REQUESTS,
                    "Rate limit exceeded",
                    f"the key {key.name} may make {key.rate:g} requests a second, and {burst} at once",
                    f"the next request in {wait:.3g} seconds",
                ),
                {"Retry-After": str(math.ceil(wait))},
            )


def is_admin(scope: Scope) -> bool:
    """Whether a request may do what only administrators may."""
    return bool(scope["momentum.admin"]) if "momentum.admin" in scope else _is_local(scope)


class _Refused(Exception):  # noqa: N818 - it ends in a problem
    def __init__(self, reason: Refusal, problem: Problem, headers: dict[str, str] | None = None) -> None:
        super().__init__(str(problem))
        self.reason = reason
        self.problem = problem
        self.headers = headers


def _is_local(scope: Scope) -> bool:
    """Whether the client is on this machine."""
    client = scope.get("client")
    try:
        return client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False
