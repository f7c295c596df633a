"""The threads that run graphs, and what becomes of their work when one dies."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue

from service.engine import denormals
from service.engine.batching import Answer
from service.engine.scheduler import Batch


class Lane:
    """A thread that runs one batch at a time, and then at once the next, if it has been given one. It does
    nothing but run graphs, which frees Python's lock: queue, stacking and splitting belong to the event
    loop's thread, or the two would hand that lock back and forth.

    All but the thread itself belongs to the event loop's thread.

    Args:
        number: names the thread.
        loop: the event loop.
        finished: is called in it with the lane, the batch and its outcome.
        died: is called in it when the thread has ended without being told to. `batch` is what it ran.

    Attributes:
        number: as given.
        batch: what runs, None while the lane is free.
        ahead: what runs after that, None if nothing has been given yet.
        thread: its own.
        ended: set when the thread has ended, or is about to.
    """

    def __init__(
        self,
        number: int,
        loop: asyncio.AbstractEventLoop,
        finished: Callable[[Lane, Batch, Answer], None],
        died: Callable[[Lane], None],
    ) -> None:
        self.number = number
        self.batch: Batch | None = None
        self.ahead: Batch | None = None
        self.ended = asyncio.Event()
        self._loop = loop
        self._finished = finished
        self._died = died
        self._work: SimpleQueue[Batch | None] = SimpleQueue()
        self.thread = threading.Thread(target=self._run, name=f"lane-{number}", daemon=True)
        self.thread.start()

    def start(self, batch: Batch) -> None:
        """Run a batch, after the one that runs if there is one. Nothing may be ahead."""
        if self.batch is None:
            self.batch = batch
        else:
            self.ahead = batch
        self._work.put(batch)

    def go_on(self) -> Batch | None:
        """What ran has been finished: what runs now, None if the lane is free."""
        self.batch, self.ahead = self.ahead, None
        return self.batch

    def stop(self) -> None:
        """End the thread when it has run what it runs."""
        self._work.put(None)

    def _run(self) -> None:
        told = False
        denormals.flush()
        try:
            while (batch := self._work.get()) is not None:
                outcome: Answer
                try:
                    outcome = batch.run()
                except Exception as error:
                    outcome = error
                self._tell(self._finished, self, batch, outcome)
                del batch, outcome  # a free lane keeps nobody's tensors
            told = True
        finally:
            self._tell(self._end, told)

    def _end(self, told: bool) -> None:
        self.ended.set()
        if not told:
            self._died(self)

    def _tell(self, callback: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            return  # the loop is closed: nobody waited for this lane any more
