"""Finds the replica for a request, and reaches it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from urllib.parse import quote

import aiohttp
import yarl
from ray.serve.handle import DeploymentHandle
from starlette.types import Scope

from service.ray.leases import HEADER, Lease

# Of a connection, not of a request; and what Ray's proxy has answered.
HOP = {b"connection", b"expect", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade"}

_LEASE = HEADER.lower().encode()
_CONNECT_SECONDS = 5
_IDLE_SECONDS = 2  # for which a connection to a replica is kept; the replica closes it after five


class UnavailableError(RuntimeError):
    """No replica can be reached."""


class Replicas:
    """A context: connections to replicas live in it.

    Args:
        models: the deployment of each.
    """

    def __init__(self, models: Mapping[str, DeploymentHandle]) -> None:
        self._models = models
        self._client: aiohttp.ClientSession

    @property
    def models(self) -> list[str]:
        """The names of all, in order."""
        return sorted(self._models)

    async def __aenter__(self) -> None:
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_SECONDS),
            # What else takes long is for the replica to say.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def lease(self, model: str) -> Lease:
        """A lease of the replica of a model that Ray picks.

        Raises:
            UnavailableError
        """
        try:
            granted = self._models[model].options(stream=True).lease.remote()
            lease: Lease = await anext(aiter(granted))
        except Exception as error:  # Ray has many, and those of the replica
            raise UnavailableError(f"no replica of model {model} can be had: {error}") from error
        return lease

    async def find(self, stream: str) -> Lease | None:
        """A lease of the replica that has a stream, None if none does."""
        asked = [handle.broadcast("find", stream) for handle in self._models.values()]
        answers = await asyncio.gather(
            *(each.results_async(timeout_s=_CONNECT_SECONDS, return_exceptions=True) for each in asked),
            return_exceptions=True,
        )
        leases = [lease for answer in answers if isinstance(answer, list) for lease in answer]
        return next((lease for lease in leases if isinstance(lease, Lease)), None)

    def request(
        self, lease: Lease, scope: Scope, body: AsyncIterator[bytes] | None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Make a client's request at a replica."""
        return self._client.request(
            scope["method"],
            _url(scope, lease),
            headers=_headers(scope, lease),
            data=body,
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )

    def dial(
        self, lease: Lease, scope: Scope
    ) -> AbstractAsyncContextManager[aiohttp.ClientWebSocketResponse]:
        """Open a client's WebSocket at a replica."""
        headers = [pair for pair in _headers(scope, lease) if not pair[0].startswith("sec-websocket-")]
        return self._client.ws_connect(
            _url(scope, lease), headers=headers, protocols=scope.get("subprotocols", ()), max_msg_size=0
        )


def _url(scope: Scope, lease: Lease) -> yarl.URL:
    path = (scope.get("raw_path") or quote(scope["path"]).encode()).decode("latin-1")
    query = scope.get("query_string", b"").decode("latin-1")
    return yarl.URL(f"http://{lease.address}{path}" + (f"?{query}" if query else ""), encoded=True)


def _headers(scope: Scope, lease: Lease) -> list[tuple[str, str]]:
    """The client's, and who it is. A client has no lease, whatever it says."""
    headers = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in scope["headers"]
        if name not in HOP and name != _LEASE
    ]
    client = scope.get("client")
    return [*headers, ("x-forwarded-for", client[0] if client else "unknown"), (HEADER, lease.key)]
