"""`python -m service`: serve the models of a store. `python -m service stream`: be a client of that."""

from __future__ import annotations

import os
import signal
import socket
import sys

import structlog
import uvicorn

from service import logs
from service.app import create_app
from service.client import stream as client
from service.engine import StoreError
from service.settings import Settings
from service.streams.endpoint import Streams
from service.streams.sockets import WebSocketProtocol

log = structlog.get_logger("service")


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["stream"]:
        sys.exit(client.main(sys.argv[2:]))
    serve()


def serve() -> None:
    """Serve until SIGINT or SIGTERM, finish the running requests, and exit with status 0.

    Exits with 2 on bad settings, and with 1 when an artifact is broken or the address is taken, after one
    line that says so.
    """
    # For before the server takes over the signals, and after it has finished, when it repeats the one it got.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    settings = Settings.from_command_line(sys.argv[1:])
    logs.configure(settings.log_format, settings.log_level)
    try:
        app = create_app(settings)
        listener = _listen(settings.host, settings.port)
    except (StoreError, OSError) as error:
        log.error("cannot start", reason=str(error))
        sys.exit(1)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws=WebSocketProtocol,
        ws_max_size=4 * settings.max_chunk_bytes,  # so that what is a little too long gets an answer
        ws_ping_timeout=None,  # pongs wait behind audio that waits; streams have limits of their own
        ws_per_message_deflate=False,  # audio and probabilities hardly shrink
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    for model in app.state.engine.models.values():
        log.info("loaded", model=model.card.name, version=model.card.version)
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    log.info("serving", url=url, docs=f"{url}/docs", lanes=settings.lanes)
    _Server(config, app.state.streams).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Tells the clients of live streams before it cuts them off."""

    def __init__(self, config: uvicorn.Config, streams: Streams) -> None:
        super().__init__(config)
        self._streams = streams

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._streams.shutdown()
        await super().shutdown(sockets)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise OSError(f"cannot listen on {host}:{port}: {reason}; choose with --host and --port") from error


if __name__ == "__main__":
    main()
