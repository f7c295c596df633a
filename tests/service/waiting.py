"""What a request keeps while it waits for its turn."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Awaitable, Callable

from fastapi import Response

from service.engine import Engine


async def kept_while_waiting(engine: Engine, ask: Callable[[], Awaitable[Response]]) -> int:
    """Bytes that a request holds while it is in the queue; afterwards it is answered."""
    dispatch, engine._dispatch = engine._dispatch, lambda: None  # type: ignore[method-assign]
    tracemalloc.start()
    try:
        asking = asyncio.ensure_future(ask())
        while not engine.scheduler.queue.rows:
            await asyncio.sleep(0)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    engine._dispatch = dispatch  # type: ignore[method-assign]
    dispatch()
    assert (await asking).status_code == 200
    return kept
