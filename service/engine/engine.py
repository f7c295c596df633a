"""The engine: runs models on a fixed number of threads, with or without a web server around it.

A thread is called a lane. Whenever one is free, the request that waits longest and those that may run with it
run on it, at once; while all lanes are busy, the next batch gathers. When it is full, a busy lane is given it
ahead, and goes on with it without waiting for the event loop. Nothing waits for a batch to fill, and nothing
polls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self
from weakref import WeakKeyDictionary

import structlog

from service.engine import devices
from service.engine.batching import DEFAULT_PRIORITY, Answer, Layout, Piece, Request
from service.engine.clock import LoopClock
from service.engine.devices import Wanted
from service.engine.errors import EngineStoppedError, LaneDiedError
from service.engine.futures import settle
from service.engine.lanes import Lane
from service.engine.observer import Observer
from service.engine.repository import Repository
from service.engine.scheduler import Batch, Limits, Scheduler
from service.engine.statistics import Statistics
from service.engine.store import Model, Tensor, golden

log = structlog.get_logger(__name__)

MAX_ROWS = 16  # more gain nothing on a CPU, and all wait for the last
_RETRY_SECONDS = 1.0
_STALLED_SECONDS = 60.0  # no batch takes as long; a lane in it will not come back
_STOP_SECONDS = 10.0  # for what runs when the engine is stopped


class Engine:
    """The models of a store, and the lanes that run them.

    Args:
        store: folder of artifacts, <model>/<version>/.
        lanes: how many inferences may run side by side; default, as many as there are CPUs, one on a GPU.
        max_rows: how many rows may run as one inference; fewer do where that is faster.
        limits: how much may wait.
        observers: are told what happens.
        check: raises StoreError for a model that must not be served, though it is what its card says.
        versions: how many versions of a model are served.
        device: what the models run on; `auto` is a GPU if all run there, else the CPUs.

    Attributes:
        repository: the models.
        statistics: of each version of them that was asked for anything.

    Raises:
        StoreError: there is no model, or one of which no version can be served.
        DeviceError: CUDA is asked for and can't be used, or is given several lanes.
    """

    def __init__(
        self,
        store: Path,
        lanes: int | None = None,
        max_rows: int = MAX_ROWS,
        limits: Limits | None = None,
        observers: Iterable[Observer] = (),
        check: Callable[[Model], None] = lambda _: None,
        versions: int = 2,
        device: Wanted = "auto",
    ) -> None:
        self.repository = devices.choose(device, lambda on: Repository(store, check, versions, on))
        self._count = self.repository.device.allow(lanes)
        self._max_rows = max_rows
        self._limits = limits or Limits()
        repository = self.repository
        self.statistics = Statistics(lambda: repository.served)
        self._observers = [self.statistics, *observers]
        self._layouts: WeakKeyDictionary[Model, Layout] = WeakKeyDictionary()
        self._loop: asyncio.AbstractEventLoop
        self._scheduler: Scheduler
        self._lanes: list[Lane] = []
        self._free: list[Lane] = []
        self._open: list[Lane] = []  # that run a batch and have none ahead
        # Lanes that died, until another one in their place has run a golden input; of which model it is to.
        self._ailing: dict[int, Model | None] = {}
        self._doubted: WeakKeyDictionary[Model, float] = WeakKeyDictionary()  # until when not again
        self._running = False
        self._dispatching = False

    @property
    def running(self) -> bool:
        """Whether requests are answered."""
        return self._running

    @property
    def ready(self) -> bool:
        """Whether requests are answered, by models and lanes that are all as they should be."""
        return self._running and not self._ailing and not self._stalled and self.repository.ready

    @property
    def problems(self) -> list[str]:
        """What is not as it should be, in words; empty if all is well."""
        problems = [f"lane {number} died and is being replaced" for number in sorted(self._ailing)]
        problems += [
            f"lane {lane.number} has run one batch for over {_STALLED_SECONDS:.0f} seconds"
            for lane in self._stalled
        ]
        problems += [
            f"model {name} version {version}: {reason}" for name, version, reason in self.repository.problems
        ]
        if self.repository.unread is not None:
            problems.append(
                f"the store cannot be read: {self.repository.unread}; still serving what was loaded"
            )
        return problems

    @property
    def models(self) -> Mapping[str, Model]:
        """The newest version of each model that can be run."""
        return self.repository.models

    @property
    def scheduler(self) -> Scheduler:
        """What waits and runs.

        Raises:
            EngineStoppedError
        """
        if not self._running:
            raise EngineStoppedError("the engine does not run")
        return self._scheduler

    @property
    def lanes(self) -> int:
        """How many lanes there are."""
        return self._count

    @property
    def ailing(self) -> int:
        """How many of them died and are being replaced, or are in a run that does not end."""
        return len(self._ailing) + len(self._stalled)

    def model(self, name: str, version: str | None = None) -> Model:
        """A version of a model, by default the newest that is ready. It can be run for as long as it is held,
        whatever becomes of it in the store.

        Raises:
            UnknownModelError, ModelUnavailableError
        """
        return self.repository.model(name, version)

    def submit(
        self,
        model: Model,
        inputs: Mapping[str, Tensor],
        outputs: Sequence[str],
        done: Callable[[Answer], object],
        *,
        deadline: float | None = None,
        priority: int = DEFAULT_PRIORITY,
        bounded: bool = True,
    ) -> Request:
        """Queue one inference and return at once. Only the event loop's thread may call it.

        Args:
            model: one that `model` gave.
            inputs: a tensor for every input in the card; batch first. States left out start at zero.
            outputs: names of outputs or of states' outputs.
            done: is called in the event loop, with the outputs by name or with the exception that the
                inference ended in. Outputs are views of the batch's: copy what is to be kept.
            deadline: when it must have been answered, in the event loop's time. It is refused if that can't
                be kept, as far as can be told, and dropped if it turns out so while it waits; what has begun
                is finished, though it be late.
            priority: 1 goes before 2 before 3.
            bounded: see `Scheduler.submit`.

        Raises:
            InvalidTensorsError: tensors that are not the model's.
            OverloadedError, DeadlineExceededError, EngineStoppedError
        """
        scheduler = self.scheduler
        request = Request(self._layout(model), inputs, outputs, done, deadline, priority)
        scheduler.submit(request, bounded=bounded)
        if not self._dispatching and (self._free or (self._open and scheduler.full)):
            # After all that the event loop has to do by now: what else it submits runs along.
            self._dispatching = True
            self._loop.call_soon(self._dispatch)
        return request

    def cancel(self, request: Request) -> None:
        """Take a request out of the queue; if it runs already, drop its answer."""
        self._scheduler.cancel(request)

    async def infer(
        self,
        model: Model | str,
        inputs: Mapping[str, Tensor],
        outputs: Sequence[str],
        *,
        deadline: float | None = None,
        priority: int = DEFAULT_PRIORITY,
        bounded: bool = True,
    ) -> dict[str, Tensor]:
        """`submit`, and wait for the answer. Cancelling the wait takes the request out of the queue."""
        answered: asyncio.Future[dict[str, Tensor]] = asyncio.get_running_loop().create_future()
        if isinstance(model, str):
            model = self.model(model)
        request = self.submit(
            model,
            inputs,
            outputs,
            partial(settle, answered),
            deadline=deadline,
            priority=priority,
            bounded=bounded,
        )
        try:
            return await answered
        except asyncio.CancelledError:
            self.cancel(request)
            raise

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._scheduler = Scheduler(LoopClock(self._loop), self._count, self._limits, self._observers)
        self._lanes = [self._lane(number) for number in range(self._count)]
        self._free = [*self._lanes]
        self._running = True
        await self.repository.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what runs; what is still queued ends in `EngineStoppedError`, and what does not finish in
        ten seconds, in `LaneDiedError`.
        """
        self._running = False
        await self.repository.stop()
        self._scheduler.stop()
        for lane in self._lanes:
            lane.stop()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                for lane in self._lanes:
                    await lane.ended.wait()
        except TimeoutError:
            for lane in self._lanes:
                self._give_up(lane)

    @property
    def _stalled(self) -> list[Lane]:
        """Lanes in a run that does not end."""
        if not self._running:
            return []
        since = self._loop.time() - _STALLED_SECONDS
        return [lane for lane in self._lanes if lane.batch is not None and lane.batch.begun < since]

    def _lane(self, number: int) -> Lane:
        return Lane(number, self._loop, self._finished, self._died)

    def _layout(self, model: Model) -> Layout:
        layout = self._layouts.get(model)
        if layout is None:
            # With a copy: a layout that held the model itself would keep its own entry alive.
            layout = self._layouts[model] = Layout(replace(model), self._max_rows)
        return layout

    def _dispatch(self) -> None:
        """Give the free lanes what they can run, and those that run something a full batch ahead, so that
        under load they do not wait for the event loop between two.
        """
        self._dispatching = False
        while self._free and self._running:
            batch = self._scheduler.next()
            if batch is None:
                return
            lane = self._free.pop()
            lane.start(batch)
            self._open.append(lane)
        while self._open and self._running and self._scheduler.full:
            lane = self._open[0]  # the one that began first
            batch = self._scheduler.next(behind=lane.batch)
            if batch is None:
                return
            del self._open[0]
            lane.start(batch)

    def _finished(self, lane: Lane, batch: Batch, outcome: Answer) -> None:
        """A lane has run a batch."""
        if lane.batch is not batch:  # it died in the moment after that, and its work was given up
            return
        follows = lane.go_on()
        if lane.number in self._ailing:
            self._tried(lane, outcome)
            return
        if follows is None:
            self._open.remove(lane)
            self._free.append(lane)
        else:
            self._scheduler.began(follows)
            self._open.append(lane)
        if isinstance(outcome, Exception):
            self._scheduler.finish(batch, outcome)
            self._dispatch()
            if len(batch.pieces) == 1:
                self._doubt(batch.layout, outcome)
        else:
            self._dispatch()  # first, so that the lanes run while the answers are taken
            self._scheduler.finish(batch, outcome)

    def _died(self, lane: Lane) -> None:
        """A lane's thread ended by itself. Its requests fail, and another takes its place."""
        batch, ahead = lane.batch, lane.ahead
        lane.batch = lane.ahead = None
        log.error("lane died", lane=lane.number, rows=batch.rows if batch else 0)
        again = lane.number in self._ailing
        self._ailing[lane.number] = None
        for lanes in (self._free, self._open):
            if lane in lanes:
                lanes.remove(lane)
        if ahead is not None:
            self._scheduler.give_back(ahead)
            self._dispatch()
        if batch is not None:
            self._scheduler.abandon(batch, LaneDiedError("the thread that ran the request ended; try again"))
        if again:  # of the golden input, and so may the next
            self._loop.call_later(_RETRY_SECONDS, self._replace, lane.number)
        else:
            self._replace(lane.number)

    def _give_up(self, lane: Lane) -> None:
        """Do not wait for a lane's run. Its thread goes with the process."""
        batch, ahead = lane.batch, lane.ahead
        lane.batch = lane.ahead = None
        if ahead is not None:
            self._scheduler.give_back(ahead)
        if batch is not None:
            log.error("lane given up", lane=lane.number, rows=batch.rows)
            self._scheduler.abandon(batch, LaneDiedError("the engine was stopped, and the run did not end"))

    def _replace(self, number: int) -> None:
        if not self._running:
            return
        try:
            lane = self._lanes[number] = self._lane(number)
        except RuntimeError as error:  # the system has no more threads
            log.error("lane cannot be replaced", lane=number, reason=str(error))
            self._loop.call_later(_RETRY_SECONDS, self._replace, number)
        else:
            self._try(lane)

    def _try(self, lane: Lane) -> None:
        """Have a lane run a golden input before it is given anything else."""
        if not self._running:
            return
        model = self._ailing[lane.number] = next(iter(self.models.values()), None)
        if model is None:  # nothing to try it with
            self._recovered(lane)
            return
        try:
            inputs, outputs = golden(model)
            request = Request(self._layout(model), inputs, outputs, _ignore)
            batch = Batch([Piece(request, 0, request.rows)], self._loop.time(), 0.0)
        except Exception as error:  # out of memory
            self._tried(lane, error)
        else:
            lane.start(batch)

    def _tried(self, lane: Lane, outcome: Answer) -> None:
        if not isinstance(outcome, Exception):
            self._recovered(lane)
            return
        log.error("lane does not run", lane=lane.number, reason=str(outcome))
        model, self._ailing[lane.number] = self._ailing[lane.number], None
        if model is not None and self._running:
            self._fault(model, outcome, "a lane died")
        self._loop.call_later(_RETRY_SECONDS, self._try, lane)

    def _recovered(self, lane: Lane) -> None:
        log.info("lane replaced", lane=lane.number)
        del self._ailing[lane.number]
        self._free.append(lane)
        self._dispatch()

    def _doubt(self, layout: Layout, error: Exception) -> None:
        """A request failed though it ran alone: was it the request, or does the model run no more?"""
        now = self._loop.time()
        model = next((model for model, other in self._layouts.items() if other is layout), None)
        if model is None or not self._running or self._doubted.get(model, now) > now:
            return
        self._doubted[model] = now + _RETRY_SECONDS
        inputs, outputs = golden(model)

        def checked(answer: Answer) -> None:
            if isinstance(answer, Exception) and self._running:
                self._fault(model, answer, error)

        self.submit(model, inputs, outputs, checked, priority=1, bounded=False)

    def _fault(self, model: Model, error: Exception, after: object) -> None:
        self.repository.fault(model, f"it fails at its own golden input ({error}), after {after}")


def _ignore(_: Answer) -> None:
    pass
