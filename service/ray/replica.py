"""A replica: the server of `python -m service`, of one model, on a port of its own."""

from __future__ import annotations

import asyncio
import math
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import ray

from service import logs
from service.app import create_app
from service.engine import Engine
from service.http.application import Application
from service.ray.leases import Lease, Leases
from service.server import Server, listen
from service.settings import Settings

LOAD = "load"

_POLL_SECONDS = 0.01


class Replica:
    """Runs the server, and says to whom it has given leases.

    Args:
        model: which of the store's it serves.
        settings: of the server. Its lanes are as many as the CPUs that Ray has set aside for it, and it runs
            on a GPU only if Ray has set one aside.

    Raises:
        StoreError, DeviceError, KeyFileError, TracingError: see `create_app`.
    """

    async def __init__(self, model: str, settings: Settings) -> None:  # type: ignore[misc]  # Ray awaits it
        logs.configure(settings.log_format, settings.log_level)
        self._folder = TemporaryDirectory(prefix="momentum-")
        view = Path(self._folder.name)
        (view / model).symlink_to(settings.store.absolute() / model)
        has = ray.get_runtime_context().get_assigned_resources()
        on_gpu = has.get("GPU", 0) > 0
        lanes = None if on_gpu else math.ceil(has.get("CPU", 1))
        self._settings = settings.model_copy(
            update={
                "store": view,
                "lanes": settings.lanes or lanes,
                "device": settings.device if on_gpu else "cpu",
                "drain_seconds": 0,  # Ray sends nothing more before it stops a replica
            }
        )
        app = create_app(self._settings)
        self._state = app.state
        self._engine: Engine = app.state.engine
        listener = listen(ray.util.get_node_ip_address(), 0)
        host, port = listener.getsockname()[:2]
        self._leases = Leases(app, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        self._server = Server(Application(app.fastapi, self._leases), self._settings)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        while not (self._server.started or self._serving.done()):
            await asyncio.sleep(_POLL_SECONDS)
        self._engine.repository.announce()

    async def lease(self) -> AsyncIterator[Lease]:
        """Give a lease, and end when it does, so that Ray counts the request for as long as it takes."""
        lease = self._leases.grant()
        ended = self._leases.ended(lease)
        yield lease
        await ended

    async def find(self, stream: str) -> Lease | None:
        """A lease, if the stream is here, or was and it is known what became of it."""
        registry = self._state.streams.registry
        known = registry.get(stream) is not None or registry.ending(stream) is not None
        return self._leases.grant() if known else None

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What Ray scales by: how many times over the lanes could be filled with what runs and waits."""
        lanes, scheduler = self._engine.lanes, self._engine.scheduler
        waiting = scheduler.queue.rows / self._settings.batch_rows
        return {LOAD: (scheduler.running + waiting) / lanes}

    async def check_health(self) -> None:
        """Ray asks now and then, and replaces a replica that fails thrice. One whose lane is being replaced
        is well.
        """
        if self._serving.done() or not self._engine.running:
            raise RuntimeError("the server has ended")

    async def __del__(self) -> None:
        """Ray has stopped the replica: tell the streams, finish what runs, and end."""
        if hasattr(self, "_serving"):  # else it has not begun
            self._server.handle_exit(signal.SIGTERM, None)
            await self._serving
        self._folder.cleanup()
