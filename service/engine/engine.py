"""The engine: runs models on a fixed number of threads, with or without a web server around it.

A thread is called a lane. Whenever one is free, the request that waits longest and those that may run with it
run on it, at once; while all lanes are busy, the next batch gathers. Nothing waits for a batch to fill.

The lanes do nothing but run graphs, which frees Python's lock. Queue, stacking and splitting belong to the
event loop's thread: shared between threads they would hand that lock back and forth for every request, which
costs more than the work itself.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Self

import structlog

from service.engine.batching import Answer, Layout, Queue, Request
from service.engine.store import Model, Tensor, load_store

log = structlog.get_logger(__name__)


class UnknownModelError(LookupError):
    """The engine holds no model of that name; the message names those it holds."""


class EngineStoppedError(RuntimeError):
    """The engine was stopped, or never started."""


class Engine:
    """The newest version of every model in a store, and the lanes that run them.

    Args:
        store: folder of artifacts, <model>/<version>/.
        lanes: how many inferences may run side by side.
        max_rows: how many rows of several requests may run as one inference.

    Raises:
        StoreError: an artifact is damaged or does not do what its card says.
    """

    def __init__(self, store: Path, lanes: int, max_rows: int = 16) -> None:
        self._models = load_store(store)
        self._layouts = {name: Layout(model) for name, model in self._models.items()}
        self._lanes = lanes
        self._queue = Queue(max_rows)
        self._halves: deque[list[Request]] = deque()  # of batches that failed
        self._work: SimpleQueue[tuple[list[Request], Mapping[str, Tensor]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._loop: asyncio.AbstractEventLoop
        self._free = 0
        self._running = False
        self._dispatching = False

    @property
    def ready(self) -> bool:
        """Whether requests are answered: every model is loaded and checked, and the engine has not been
        stopped.
        """
        return self._running

    @property
    def models(self) -> Mapping[str, Model]:
        """The loaded models by name."""
        return self._models

    def model(self, name: str) -> Model:
        """The model of that name.

        Raises:
            UnknownModelError
        """
        return self._layout(name).model

    def submit(
        self,
        name: str,
        inputs: Mapping[str, Tensor],
        outputs: Sequence[str],
        done: Callable[[Answer], object],
    ) -> Request:
        """Queue one inference and return at once. Only the event loop's thread may call it.

        Args:
            name: of the model.
            inputs: as of `Model.run`.
            outputs: as of `Model.run`.
            done: is called in the event loop, with the outputs by name or with the exception that the
                inference ended in. Outputs may be longer than the inputs, as they were padded in a batch, and
                are views of the batch's: copy what is to be kept.

        Raises:
            UnknownModelError
            InvalidTensorsError: the inputs differ in their number of rows.
            EngineStoppedError
        """
        if not self._running:
            raise EngineStoppedError("the engine does not run")
        request = Request(self._layout(name), inputs, outputs, done)
        self._queue.push(request)
        if self._free and not self._dispatching:
            # After all that the event loop has to do by now: what else it submits runs along.
            self._dispatching = True
            self._loop.call_soon(self._dispatch)
        return request

    def cancel(self, request: Request) -> None:
        """Take a request out of the queue; if it runs already, drop its answer."""
        request.done = _drop
        self._queue.remove(request)

    async def infer(
        self, name: str, inputs: Mapping[str, Tensor], outputs: Sequence[str]
    ) -> dict[str, Tensor]:
        """`submit`, and wait for the answer. Cancelling the wait takes the request out of the queue."""
        answered: asyncio.Future[dict[str, Tensor]] = asyncio.get_running_loop().create_future()

        def settle(answer: Answer) -> None:
            if answered.done():  # cancelled, which is about to be noticed below
                return
            if isinstance(answer, Exception):
                answered.set_exception(answer)
            else:
                answered.set_result(answer)

        request = self.submit(name, inputs, outputs, settle)
        try:
            return await answered
        except asyncio.CancelledError:
            self.cancel(request)
            raise

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._threads = [
            threading.Thread(target=self._run_lane, name=f"lane-{number}", daemon=True)
            for number in range(self._lanes)
        ]
        for thread in self._threads:
            thread.start()
        self._free = self._lanes
        self._running = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what runs; what is still queued ends in `EngineStoppedError`."""
        self._running = False
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        for request in [*chain(*self._halves), *self._queue.clear()]:
            _answer(request, EngineStoppedError("the engine was stopped before it came to this request"))
        self._halves.clear()

    def _layout(self, name: str) -> Layout:
        try:
            return self._layouts[name]
        except KeyError:
            raise UnknownModelError(
                f"there is no model {name!r}; this server has {', '.join(self._layouts)}"
            ) from None

    def _dispatch(self) -> None:
        """Give the free lanes what they can run."""
        self._dispatching = False
        while self._free and self._running:
            requests = self._halves.popleft() if self._halves else self._queue.take()
            if not requests:
                return
            try:
                inputs = requests[0].layout.stack(requests)
            except Exception as error:
                self._fail(requests, error)
                continue
            self._free -= 1
            self._work.put((requests, inputs))

    def _run_lane(self) -> None:
        while (work := self._work.get()) is not None:
            requests, inputs = work
            outcome: Answer
            try:
                outcome = requests[0].layout.model.run(inputs, requests[0].outputs)
            except Exception as error:
                outcome = error
            self._loop.call_soon_threadsafe(self._finish, requests, outcome)

    def _finish(self, requests: list[Request], outcome: Answer) -> None:
        """A lane has run these."""
        self._free += 1
        if isinstance(outcome, Exception):
            self._fail(requests, outcome)
            self._dispatch()
            return
        self._dispatch()  # first, so that the lane runs while the answers are taken
        answers = requests[0].layout.split(requests, outcome)
        for request, answer in zip(requests, answers, strict=True):
            _answer(request, answer)

    def _fail(self, requests: list[Request], error: Exception) -> None:
        """Answer with the error, but run a batch again in halves first: only those requests are to fail that
        would fail alone.
        """
        if len(requests) == 1:
            _answer(requests[0], error)
        else:
            middle = len(requests) // 2
            self._halves += [requests[:middle], requests[middle:]]


def _answer(request: Request, answer: Answer) -> None:
    try:
        request.done(answer)
    except Exception:
        log.exception("an answer was not taken")


def _drop(_: Answer) -> None:
    pass
