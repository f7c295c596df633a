"""Notices what happens in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
from watchfiles import awatch

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 5  # also without a notice: file systems of other machines give none, and folders get replaced
_STEP_MS = 1000  # between looks for notices; watchfiles' own 50 cost 0.1 % of a CPU, this 0.01


async def watch(store: Path, changed: Callable[[], Awaitable[None]]) -> None:
    """Call back when something in the store has changed, and at times when it may have, until cancelled.

    The folder may vanish and come back. Where the system has no more notices to give, calling back at times
    has to do.
    """
    said = None
    while True:
        try:
            async for _ in awatch(
                store,
                step=_STEP_MS,
                rust_timeout=round(1000 * _LOOK_SECONDS),
                yield_on_timeout=True,
                ignore_permission_denied=True,
            ):
                said = None
                await changed()
                if not store.is_dir():
                    break
        except OSError as error:
            if str(error) != said:
                said = str(error)
                log.warning("store not watched", reason=said, looks_every=_LOOK_SECONDS)
        except Exception:  # nothing may end the watching
            log.exception("store not watched")
        await asyncio.sleep(_LOOK_SECONDS)
        await changed()
