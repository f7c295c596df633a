"""What a request keeps while it waits for its turn."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Awaitable, Callable

from fastapi import Response

from service.engine import Engine


async def keeps_less(engine: Engine, ask: Callable[[], Awaitable[Response]], most: int) -> bool:
    """Whether a request holds fewer bytes while it is in the queue; afterwards it is answered. A thread that
    has decoded it may let go of it a moment later.
    """
    dispatch, engine._dispatch = engine._dispatch, lambda: None  # type: ignore[method-assign]
    tracemalloc.start()
    try:
        asking = asyncio.ensure_future(ask())
        while not engine.scheduler.queue.rows:
            await asyncio.sleep(0)
        for _ in range(200):
            kept, _ = tracemalloc.get_traced_memory()
            if kept < most:
                break
            await asyncio.sleep(0.01)
    finally:
        tracemalloc.stop()
    engine._dispatch = dispatch  # type: ignore[method-assign]
    dispatch()
    assert (await asking).status_code == 200
    return kept < most
