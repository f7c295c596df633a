"""The work itself: files are listed, decoded, classified and written, all at the same time and each within
bounds.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any

from service.batch.classification import Row, classify
from service.batch.decoding import Decoders, Recipe
from service.batch.files import File, Input, Task
from service.batch.progress import Display
from service.batch.results import Results
from service.engine import Engine, Model

CHUNKS = 4  # in flight for every row that the lanes run at a time, so that these never wait
IMAGES = 16  # decoded together, since handing one to a process takes as long as decoding a small one
_LISTED = 1024  # files listed at a time
_PART_SECONDS = 60.0  # of work that a part holds at the most, where files take long


class Run:
    """Classify the files of an input that have no rows yet.

    Args:
        engine: that runs.
        models: for each task, the model.
        recipes: for each task, how its files are decoded.
        only: the task of all files; None goes by their names.
        decoders: that decode.
        results: where rows go.
        display: is told how far it is.
        in_flight: chunks, of a recording or of 16 images, that are being worked on.
        part_rows: the most rows of a part.
    """

    def __init__(
        self,
        engine: Engine,
        models: Mapping[Task, Model],
        recipes: Mapping[Task, Recipe],
        only: Task | None,
        decoders: Decoders,
        results: Results,
        display: Display,
        in_flight: int,
        part_rows: int,
    ) -> None:
        self._engine = engine
        self._models = models
        self._recipes = recipes
        self._only = only
        self._decoders = decoders
        self._results = results
        self._display = display
        self._in_flight = in_flight
        self._part_rows = part_rows
        self._loop = asyncio.get_running_loop()
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        self._window: deque[asyncio.Task[list[Row]]] = deque()
        self._rows: list[Row] = []
        self._written = self._loop.time()

    def stop(self) -> None:
        """End soon: write what has been classified, leave the rest."""
        if not self._stopped.done():
            self._stopped.set_result(None)

    async def run(self, source: Input) -> bool:
        """Do it. Returns whether all is done, or else it was stopped. What has been classified is written,
        however it ends; an error has a note if that failed.

        Raises:
            OSError: the input can't be read, or the results written.
            DecodersError, LaneDiedError, EngineStoppedError
        """
        try:
            await self._begin_all(self._listed(source))
            while self._window and await self._take():
                pass
            self._add_ended()
            await self._write()
        except Exception as error:
            self._add_ended()
            try:
                await self._write()
            except OSError as another:
                error.add_note(f"what was classified last could not be written either: {another}")
            raise
        finally:
            for one in self._window:
                one.cancel()
            await asyncio.gather(*self._window, return_exceptions=True)
        return not self._stopped.done()

    async def _begin_all(self, listed: asyncio.Queue[list[File] | Exception]) -> None:
        """Begin with one listed file after the other, as the window has room, until it is time to stop."""
        while not self._stopped.done():
            listing = asyncio.create_task(listed.get())
            if not await self._unless_stopped(listing):
                listing.cancel()
                return
            files = listing.result()
            if isinstance(files, Exception):
                while self._window and await self._take():
                    pass
                raise files
            if not files:
                return
            for task, chunk in _chunks(files, self._only):
                while len(self._window) >= self._in_flight and await self._take():
                    pass
                if self._stopped.done():
                    return
                self._window.append(asyncio.create_task(self._classify(task, chunk)))

    async def _classify(self, task: Task | None, files: list[File]) -> list[Row]:
        if task is None or task not in self._models:
            rows: list[Row] = [{"error": file.problem or _unknown(task)} for file in files]
        else:
            decoded = await self._decoders.decode(self._recipes[task], [file.path for file in files])
            try:
                rows = await classify(self._engine, self._models[task], decoded)
            finally:
                await self._decoders.release(decoded)
        return [{"path": file.name} | row for file, row in zip(files, rows, strict=True)]

    async def _take(self) -> bool:
        """Take what was begun first, when it has ended, so that rows are in the input's order. Returns
        whether it was.
        """
        if not await self._unless_stopped(self._window[0]):
            return False
        self._add(self._window.popleft().result())
        late = self._loop.time() - self._written > _PART_SECONDS
        if len(self._rows) >= self._part_rows or late:
            await self._write()
        return True

    def _add_ended(self) -> None:
        """Take what has ended well, out of turn: nothing is waited for any more."""
        ended = [one for one in self._window if one.done() and one.exception() is None]
        for one in ended:
            self._window.remove(one)
            self._add(one.result())

    def _add(self, rows: list[Row]) -> None:
        self._rows += rows
        self._display.add(len(rows), sum("error" in row for row in rows))

    async def _write(self) -> None:
        rows, self._rows = self._rows, []
        if not rows:
            return
        await asyncio.to_thread(self._results.write, rows)
        self._written = self._loop.time()

    async def _unless_stopped(self, future: asyncio.Task[Any]) -> bool:
        """Wait until it has ended. Returns False when it is time to stop instead."""
        await asyncio.wait({future, self._stopped}, return_when=asyncio.FIRST_COMPLETED)
        return not self._stopped.done()

    def _listed(self, source: Input) -> asyncio.Queue[list[File] | Exception]:
        """Files that are not done, some at a time; none when there are no more, or why there can't be."""
        listed: asyncio.Queue[list[File] | Exception] = asyncio.Queue(1)

        def put(files: list[File] | Exception) -> None:
            putting = listed.put(files)
            try:
                asyncio.run_coroutine_threadsafe(putting, self._loop).result()
            except RuntimeError:  # the event loop has gone
                putting.close()
                raise

        def missing() -> Iterator[File]:
            for file in source.files():
                if self._results.has(file.name):
                    self._display.skipped += 1
                else:
                    yield file

        def list_files() -> None:
            some: list[File] = []
            end: list[File] | Exception = []
            try:
                for file in missing():
                    some.append(file)
                    if len(some) == _LISTED:
                        put(some)
                        some = []
            except OSError as error:
                end = error
            if some:
                put(some)
            put(end)

        def count_files() -> None:
            with suppress(OSError):  # which listing them tells of
                self._display.total = source.count()

        for work in (list_files, count_files):
            _in_background(work)
        return listed


def _in_background(work: Callable[[], None]) -> None:
    """In a thread that the process need not wait for: standard input may never end."""

    def run() -> None:
        with suppress(RuntimeError, CancelledError):  # the event loop has gone, or goes
            work()

    threading.Thread(target=run, daemon=True).start()


def _chunks(files: list[File], only: Task | None) -> Iterator[tuple[Task | None, list[File]]]:
    """Neighbours that are decoded together."""
    chunk: list[File] = []
    current: Task | None = None
    for file in files:
        task = None if file.problem else only or file.task
        if chunk and (task != current or len(chunk) == IMAGES or task == "frames"):
            yield current, chunk
            chunk = []
        current = task
        chunk.append(file)
    if chunk:
        yield current, chunk


def _unknown(task: Task | None) -> str:
    if task is None:
        return "its name says neither image nor recording; --model says what to take all files for"
    return f"the store has no model {task}"
