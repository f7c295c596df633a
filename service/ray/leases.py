"""Who may use a replica's port."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

HEADER = "X-Momentum-Lease"

_NAME = HEADER.lower().encode()
_UNUSED_SECONDS = 10


@dataclass(frozen=True)
class Lease:
    """The right to make one request of a replica.

    Attributes:
        address: host and port.
        key: what the request has in `HEADER`.
    """

    address: str
    key: str


class Leases:
    """Lets in requests that were given to this replica, by whoever asked Ray for one: the port is no way
    around the ingress, and Ray knows which replica does how much.

    Args:
        app: answers them.
        address: of the port.
    """

    def __init__(self, app: ASGIApp, address: str) -> None:
        self._app = app
        self._address = address
        self._unused: dict[str, asyncio.Future[None]] = {}

    def grant(self) -> Lease:
        """A lease that is good for one request, if that comes soon."""
        key = secrets.token_urlsafe(16)
        loop = asyncio.get_running_loop()
        self._unused[key] = loop.create_future()
        loop.call_later(_UNUSED_SECONDS, self._expire, key)
        return Lease(self._address, key)

    def ended(self, lease: Lease) -> asyncio.Future[None]:
        """Is done when a lease that was just granted is over: its request was answered, or never came."""
        return self._unused[lease.key]

    @asynccontextmanager
    async def _use(self, key: str) -> AsyncIterator[bool]:
        ended = self._unused.pop(key, None)
        try:
            yield ended is not None
        finally:
            if ended is not None and not ended.done():
                ended.set_result(None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name, value) for name, value in scope["headers"] if name != _NAME]
        key = next((value for name, value in scope["headers"] if name == _NAME), b"")
        async with self._use(key.decode("latin-1")) as granted:
            if granted:
                await self._app({**scope, "headers": headers}, receive, send)
            elif scope["type"] == "websocket":
                await send({"type": "websocket.close"})
            else:
                await send({"type": "http.response.start", "status": 403, "headers": []})
                await send({"type": "http.response.body"})

    def _expire(self, key: str) -> None:
        ended = self._unused.pop(key, None)
        if ended is not None and not ended.done():
            ended.set_result(None)
