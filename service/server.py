"""The server process: its socket, how it begins, and how it ends."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from contextlib import AsyncExitStack
from functools import partial
from types import FrameType

import structlog
import uvicorn

from service.http.application import Application
from service.http.date import Date
from service.http.protocol import HTTPProtocol
from service.settings import Settings
from service.streams.sockets import WebSocketProtocol

log = structlog.get_logger("service")


class StartError(Exception):
    """The application can't be started; the message says why."""


class Server(uvicorn.Server):
    """Ends in steps, so that nobody is cut off: after SIGTERM it is not ready any more but serves on for a
    while, until load balancers have noticed; then it tells the clients of live streams, takes no more
    connections, and finishes the running requests. SIGINT, and a second SIGTERM, end the waiting.

    Args:
        app: the application.
        settings: the limits.
    """

    def __init__(self, app: Application, settings: Settings) -> None:
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http=partial(
                HTTPProtocol,
                connections=settings.max_connections,
                head_seconds=settings.head_seconds,
                answer_seconds=settings.answer_seconds,
                refusals=app.state.refusals,
                direct=app.direct,
                date=Date(),
            ),  # type: ignore[arg-type]
            lifespan="off",  # begun and ended here: uvicorn would only log the traceback of what fails
            ws=WebSocketProtocol,
            ws_max_size=4 * settings.max_chunk_bytes,  # so that what is a little too long gets an answer
            ws_ping_timeout=None,  # pongs wait behind audio that waits; streams have limits of their own
            ws_per_message_deflate=False,  # audio and probabilities hardly shrink
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=settings.keep_alive_seconds,
            timeout_graceful_shutdown=settings.shutdown_seconds,
        )
        super().__init__(config)
        self._app = app
        self._drain_seconds = settings.drain_seconds
        self._running = AsyncExitStack()
        self._exit = asyncio.Event()
        self._hurry = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, and take connections.

        Raises:
            StartError
        """
        try:
            await self._running.enter_async_context(self._app.running())
            await super().startup(sockets)
        except Exception as error:  # no more threads, no memory, whatever it is
            await self._running.aclose()
            raise StartError(f"the application does not start: {type(error).__name__}: {error}") from error
        # What is there by now stays. Each time that the collector looked at it all, answers waited for 0.1 s.
        gc.collect()
        gc.freeze()
        engine = self._app.state.engine
        url, device = _url(self.servers[0].sockets[0]), engine.repository.device
        log.info(
            "serving",
            url=url,
            docs=f"{url}/docs",
            lanes=engine.lanes,
            device=device.name,
            because=device.reason,
        )

    async def main_loop(self) -> None:
        """Uvicorn's own wakes ten times a second, to see whether it is to exit and to renew the date."""
        await self._exit.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called on SIGINT and SIGTERM, between any two instructions of the event loop's thread."""
        if sig == signal.SIGINT or self.should_exit:
            self._hurry.set()
        super().handle_exit(sig, frame)
        self._exit.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End in the steps that the class tells."""
        self._app.state.draining = True
        log.info("draining", seconds=0 if self._hurry.is_set() else self._drain_seconds)
        try:
            async with asyncio.timeout(self._drain_seconds):
                await self._hurry.wait()
        except TimeoutError:
            pass
        log.info("stopping")
        await self._app.state.streams.shutdown()
        await super().shutdown(sockets)
        await self._running.aclose()


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        OSError: the address is unknown or taken; the message says what to do.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except UnicodeError:  # of names such as a..b, which can't be asked for
        raise OSError(f"cannot listen on {host}:{port}: no such name; choose with --host") from None
    except OSError as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise OSError(f"cannot listen on {host}:{port}: {reason}; choose with --host and --port") from error
