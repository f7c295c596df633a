"""Who may do what: API keys and their limits, by the path of a request."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Collection
from functools import partial
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.headers import header
from service.http.keys import Access, Key, Keys
from service.http.problems import Problem, StatusProblem
from service.http.ratelimit import TokenBucket
from service.http.refusals import Refusal, Refusals, Refused

SUBPROTOCOL = "momentum"  # which a browser's WebSocket asks for besides the one that holds its key
_BEARER = "bearer."
_HOW = "Authorization: Bearer KEY, or X-API-Key: KEY"

# Probes, the page, the documentation and the metrics tell nothing that a key would have to keep. All else
# needs one: no pattern here may fail to match what a route takes.
_OPEN = {"/", "/docs", "/openapi.json", "/metrics", "/v1/status"}
_OPEN_FOLDERS = ("/v2/health/", "/web/", "/docs/", "/static-offline-docs/")
_ADMIN_FOLDER = "/v2/repository/"
_OWN_FOLDER = "/v1/streams/"  # GET: a stream's own token, or an admin's key: its endpoint asks `is_admin`
_PROXIED = {b"via", b"forwarded", b"x-real-ip"}
_PROXIED_PREFIX = b"x-forwarded-"
_LOCAL_NAMES = re.compile(rb"(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]+)?")


class AccessControl:
    """Asks for a key, `Authorization: Bearer KEY` or `X-API-Key: KEY`, and keeps its owner to its limits.
    Without a file of keys, everybody may use the models, and nobody may administer them, or programs on this
    machine alone if that is wanted: a proxy here that tells nothing of itself would let everybody in.

    A browser's WebSocket can't have headers. It offers the subprotocols `momentum` and `bearer.KEY`, of which
    the first is taken. There is no parameter for a key: addresses end up in logs and histories.

    Args:
        app: what answers those who may.
        keys: of the file; None without one.
        origins: whose pages may open WebSockets, besides the server's own; "*" is any. Browsers apply CORS
            to all else, but leave that to the server.
        clock: seconds, which never go back.
        refusals: where the others are counted.
        local_admin: whether programs on this machine are administrators where there are no keys.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: Keys | None,
        origins: Collection[str],
        clock: Callable[[], float],
        refusals: Refusals,
        *,
        local_admin: bool = False,
    ) -> None:
        self.app = app
        self.keys = keys
        self.origins = {origin.lower().encode() for origin in origins}
        self.clock = clock
        self.refusals = refusals
        self.local_admin = local_admin
        self._buckets: dict[str, TokenBucket] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self.admit(scope)
        except Refused as refused:
            await refused.counted_response(scope, self.refusals)(scope, receive, send)
            return
        if SUBPROTOCOL in scope.get("subprotocols", ()):
            send = _taking_subprotocol(send)
        await self.app(scope, receive, send)

    def admit(self, scope: Scope) -> None:
        """Tell the scope whose request it is.

        Raises:
            Refused: who asks may not.
        """
        path: str = scope["path"]
        if scope["type"] == "websocket" and not self._is_welcome(scope):
            raise Refused(
                Refusal.FORBIDDEN,
                StatusProblem(
                    HTTPStatus.FORBIDDEN,
                    "the page that asks is of another origin",
                    "a page of this server, or of an origin that it is told of with --cors-origins",
                ),
                {},
            )
        administers = path.startswith(_ADMIN_FOLDER)
        if self.keys is None:
            scope["momentum.admin"] = self.local_admin and _is_local(scope)
            if administers and not scope["momentum.admin"]:
                if self.local_admin:
                    raise _forbidden(
                        "without API keys, only programs on the server's own machine may administer it",
                        "a key with the scope admin: start the server with --api-keys",
                    )
                raise _forbidden(
                    "without API keys, nobody may administer the server",
                    "a key with the scope admin: start the server with --api-keys, or with --local-admin, "
                    "which lets programs on its own machine",
                )
            return
        if is_open(path):
            return
        sent = _sent(scope)
        key = self.keys.find(sent) if sent else None
        if key is not None:
            scope["momentum.key"] = key.name
        scope["momentum.admin"] = key is not None and Access.ADMIN in key.scopes
        if path.startswith(_OWN_FOLDER) and scope.get("method") == "GET":
            if key is not None:
                self._take(key)
            return
        if key is None:
            raise _unauthorized(sent)
        needed = Access.ADMIN if administers else Access.INFER
        if needed not in key.scopes:
            raise _forbidden(
                f"the key {key.name} has the scope {' and '.join(sorted(key.scopes))}",
                f"a key with the scope {needed}",
                f'Bearer error="insufficient_scope", scope="{needed}"',
            )
        self._take(key)
        scope["momentum.allowed"] = partial(self.keys.allows, key, needed)

    def _is_welcome(self, scope: Scope) -> bool:
        """Whether a WebSocket is that of a page that may use the server, or not of a page at all."""
        origin = header(scope, b"origin")
        if origin is None or b"*" in self.origins or origin.lower() in self.origins:
            return True
        _, _, host = origin.lower().partition(b"://")
        return host != b"" and host == (header(scope, b"host") or b"").lower()

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
            raise Refused(
                Refusal.RATE_LIMITED,
                Problem(
                    HTTPStatus.TOO_MANY_REQUESTS,
                    "Rate limit exceeded",
                    f"the key {key.name} may make {key.rate:g} requests a second, and {burst} at once",
                    f"the next request in {wait:.3g} seconds",
                ),
                {"Retry-After": str(math.ceil(wait))},
            )


def is_open(path: str) -> bool:
    """Whether a path needs no key."""
    return path in _OPEN or path.startswith(_OPEN_FOLDERS)


def is_admin(scope: Scope) -> bool:
    """Whether a request may do what only administrators may."""
    return bool(scope.get("momentum.admin"))


def is_still_allowed(scope: Scope) -> bool:
    """Whether a connection that lasts may go on: its key has not been revoked."""
    allowed: Callable[[], bool] | None = scope.get("momentum.allowed")
    return allowed is None or allowed()


def _unauthorized(sent: bytes) -> Refused:
    return Refused(
        Refusal.UNAUTHORIZED,
        StatusProblem(
            HTTPStatus.UNAUTHORIZED,
            "the server does not know the request's API key" if sent else "the request has no API key",
            _HOW,
        ),
        {"WWW-Authenticate": 'Bearer error="invalid_token"' if sent else "Bearer"},
    )


def _forbidden(detail: str, expected: str, challenge: str = "Bearer") -> Refused:
    problem = StatusProblem(HTTPStatus.FORBIDDEN, detail, expected)
    return Refused(Refusal.FORBIDDEN, problem, {"WWW-Authenticate": challenge})


def _sent(scope: Scope) -> bytes:
    """The key that the client sent, empty without one."""
    kind, _, key = (header(scope, b"authorization") or b"").partition(b" ")
    if kind.lower() == b"bearer":
        return key.strip()
    if key := header(scope, b"x-api-key") or b"":
        return key
    offered = scope.get("subprotocols", ())
    return next((name[len(_BEARER) :].encode() for name in offered if name.startswith(_BEARER)), b"")


def _taking_subprotocol(send: Send) -> Send:
    """Accept a WebSocket with the subprotocol that isn't a secret: browsers insist on one they offered."""

    async def take(message: Message) -> None:
        if message["type"] == "websocket.accept":
            message["subprotocol"] = SUBPROTOCOL
        await send(message)

    return take


def _is_local(scope: Scope) -> bool:
    """Whether the client is a program on this machine. A page of elsewhere in a browser there would tell its
    origin, or have made a name of its own lead here. A proxy tells that it is one, unless it does as nginx
    long did by itself, which is to ask in HTTP/1.0.
    """
    client = scope.get("client")
    try:
        local = client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False
    if not local or header(scope, b"origin") is not None or scope.get("http_version") == "1.0":
        return False
    if any(name in _PROXIED or name.startswith(_PROXIED_PREFIX) for name, _ in scope["headers"]):
        return False
    return _LOCAL_NAMES.fullmatch(header(scope, b"host") or b"") is not None
