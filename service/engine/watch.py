"""Notices what happens in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
from watchfiles import awatch

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 5  # also without a notice: file systems of other machines give none, and folders get replaced


async def watch(store: Path, changed: Callable[[], Awaitable[None]]) -> None:
    """Call back when something in the store has changed, and at times when it may have, until cancelled.

    The folder may vanish and come back.
    """
    while True:
        try:
            async for _ in awatch(
                store,
                rust_timeout=round(1000 * _LOOK_SECONDS),
                yield_on_timeout=True,
                ignore_permission_denied=True,
            ):
                await changed()
                if not store.is_dir():
                    break
        except OSError as error:
            log.warning("store not watched", reason=str(error))
        except Exception:  # nothing may end the watching
            log.exception("store not watched")
        await asyncio.sleep(_LOOK_SECONDS)
