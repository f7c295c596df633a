"""A live stream's WebSocket between its client and a replica."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import aiohttp
import structlog
from starlette.types import Message, Receive, Scope, Send

from service.ray import paths
from service.ray.leases import Lease
from service.ray.replicas import Replicas, UnavailableError
from service.streams.protocol import Failure, Resume, parse_opening

log = structlog.get_logger(__name__)

_LATER = 1013  # try again


class Relay:
    """One connection. It is first opened at a replica that Ray picks, which checks who is there, and lives on
    it to its end; unless the client's first message is for a stream, or a model, that is elsewhere.

    Args:
        replicas: of all models.
        scope, receive, send: the client's connection.
    """

    def __init__(self, replicas: Replicas, scope: Scope, receive: Receive, send: Send) -> None:
        self._replicas = replicas
        self._scope = scope
        self._receive = receive
        self._send = send

    async def run(self) -> None:
        """Carry the connection from its handshake to its end."""
        await self._receive()
        try:
            await self._carry()
        except aiohttp.WSServerHandshakeError as error:
            log.info("stream refused", status=error.status)
            await self._send({"type": "websocket.close", "code": 1008})
        except (UnavailableError, aiohttp.ClientError, TimeoutError) as error:
            log.warning("no replica for a stream", reason=str(error))
            await self._send({"type": "websocket.close", "code": _LATER, "reason": "no replica answers"})

    async def _carry(self) -> None:
        async with AsyncExitStack() as dialled:
            model = paths.model_of(self._scope["path"], self._replicas.models)
            first = await self._replicas.lease(model)
            replica = await dialled.enter_async_context(self._replicas.dial(first, self._scope))
            await self._send({"type": "websocket.accept", "subprotocol": replica.protocol})
            answering = asyncio.ensure_future(replica.receive())
            opening = asyncio.ensure_future(self._receive())
            try:
                await asyncio.wait([answering, opening], return_when=asyncio.FIRST_COMPLETED)
                if (
                    not answering.done()
                    and (other := await self._elsewhere(await opening, model)) is not None
                ):
                    answering.cancel()
                    await dialled.aclose()
                    replica = await dialled.enter_async_context(self._replicas.dial(other, self._scope))
                    answering = asyncio.ensure_future(replica.receive())
                await self._relay(replica, opening, answering)
            finally:
                opening.cancel()
                answering.cancel()

    async def _elsewhere(self, opening: Message, model: str) -> Lease | None:
        """Where the stream is that the client's first message goes on with, or where the model is with which
        it begins one; None if the replica that has been dialled will do, if only to say what is wrong.
        """
        try:
            wanted = parse_opening(opening.get("text") or "")
        except Failure:
            return None
        if isinstance(wanted, Resume):
            return await self._replicas.find(wanted.token.partition(".")[0])
        if wanted.model == model or wanted.model not in self._replicas.models:
            return None
        return await self._replicas.lease(wanted.model)

    async def _relay(
        self,
        replica: aiohttp.ClientWebSocketResponse,
        opening: asyncio.Future[Message],
        answering: asyncio.Future[aiohttp.WSMessage],
    ) -> None:
        up = asyncio.create_task(self._up(replica, opening))
        try:
            await self._down(replica, answering)
        finally:
            up.cancel()
            await asyncio.wait([up])

    async def _up(self, replica: aiohttp.ClientWebSocketResponse, opening: asyncio.Future[Message]) -> None:
        message = await opening
        while message["type"] == "websocket.receive":
            if (data := message.get("bytes")) is not None:
                await replica.send_bytes(data)
            else:
                await replica.send_str(message["text"])
            message = await self._receive()
        await replica.close()  # which `_down` notices

    async def _down(
        self, replica: aiohttp.ClientWebSocketResponse, answering: asyncio.Future[aiohttp.WSMessage]
    ) -> None:
        message = await answering
        while message.type is aiohttp.WSMsgType.TEXT:
            await self._send({"type": "websocket.send", "text": message.data})
            message = await replica.receive()
        if message.type is aiohttp.WSMsgType.CLOSE:
            await self._send({"type": "websocket.close", "code": message.data, "reason": message.extra or ""})
        elif message.type is aiohttp.WSMsgType.ERROR:  # the replica has gone without a word
            await self._send({"type": "websocket.close", "code": _LATER, "reason": "the replica has gone"})
