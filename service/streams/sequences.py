"""The Open Inference Protocol's sequence extension: requests that share the model's state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.engine import Clock, DeadlineExceededError, Engine, Model, OverloadedError, Tensor
from service.engine.batching import DEFAULT_PRIORITY
from service.streams.registry import Kind, Reason, Registry

MOST_ROWS = 64  # of a sequence: each has states, which are kept
MOST_WAITING = 16  # requests of a sequence behind the one that runs
MOST_WAITING_BYTES = 64 * 2**20  # of all sequences' such requests' inputs

_RETRY_SECONDS = 1.0


class SequenceError(ValueError):
    """A request that does not fit its sequence; the message says what was sent and what was expected."""


class UnknownSequenceError(SequenceError):
    """No sequence of that id is open; the message says what became of it, as far as that is known."""


class InterruptedSequenceError(SequenceError):
    """A request of the sequence that came before this one failed, or was refused. Neither has changed the
    state.
    """


@dataclass(eq=False, slots=True)
class _Place:
    """A request's, among those of its sequence that wait or run.

    Attributes:
        interrupted: whether one before it has failed meanwhile.
    """

    interrupted: bool = False


class _Sequence:
    """See `registry.Stream`.

    Attributes:
        model: answers all of its requests.
        states: from which the next request runs.
        rows: of every request; None before the first was answered.
        ended: whether a request that ends it was admitted, and has not failed.
        turn: is held by the request that runs; the others wait for it in the order in which they came.
        places: of the requests that wait or run, in that order.
        refused: whether one was refused behind those, so that others must not come after them.
        answered: how many requests were.
    """

    def __init__(
        self, key: tuple[str, str, int | str], model: Model, idle_seconds: float, now: float
    ) -> None:
        self.kind = Kind.SEQUENCE
        self.key = key
        self.model = model
        self.patience = idle_seconds
        self.neglect = Reason.IDLE
        self.touched = now
        self.states: dict[str, Tensor] = {}
        self.rows: int | None = None
        self.ended = False
        self.turn = asyncio.Lock()
        self.places: list[_Place] = []
        self.refused = False
        self.answered = 0

    @property
    def busy(self) -> bool:
        return bool(self.places)

    @property
    def memory(self) -> int:
        return self.answered

    def describe(self) -> dict[str, Any]:
        card = self.model.card
        return {
            "sequence": self.key[2],
            "model": card.name,
            "version": card.version,
            "requests": self.answered,
        }

    def stop(self, _: Reason) -> bool:
        return False  # what it has admitted is answered nevertheless

    def enter(self) -> _Place:
        """A request has come."""
        place = _Place()
        self.places.append(place)
        return place

    def leave(self, place: _Place) -> None:
        """It has been answered, or has failed."""
        self.places.remove(place)
        self.refused = self.refused and self.busy

    def interrupt(self, place: _Place) -> None:
        """It has failed: those behind it would go on from something else than they were sent for."""
        for later in self.places[self.places.index(place) + 1 :]:
            later.interrupted = True


class Sequences:
    """The sequences in a registry.

    Args:
        engine: runs the models.
        registry: has them all.
        idle_seconds: after which a sequence without requests ends.
        clock: is asked for the registry's clock; in a server it is the event loop.
    """

    def __init__(
        self,
        engine: Engine,
        registry: Registry,
        idle_seconds: float,
        clock: Callable[[], Clock] = asyncio.get_running_loop,
    ) -> None:
        self._engine = engine
        self._registry = registry
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._waiting_bytes = 0

    def model(
        self, name: str, sequence_id: int | str, *, owner: str = "", version: str | None = None
    ) -> Model:
        """The version of a model that a sequence was begun on, and keeps to. See `infer`.

        Args:
            version: the one that the client asked for, if it did.

        Raises:
            SequenceError, UnknownSequenceError
        """
        sequence = self._find((owner, name, sequence_id))
        began = sequence.model.card.version
        if version not in (None, began):
            raise SequenceError(
                f"the request is for version {version}; sequence {sequence_id!r} of model {name} was started "
                f"on version {began} and keeps to it"
            )
        return sequence.model

    def infer(
        self,
        model: Model,
        sequence_id: int | str,
        inputs: Mapping[str, Tensor],
        outputs: Sequence[str],
        *,
        start: bool = False,
        end: bool = False,
        owner: str = "",
        deadline: float | None = None,
        priority: int = DEFAULT_PRIORITY,
    ) -> Coroutine[Any, Any, dict[str, Tensor]]:
        """Run a request of a sequence, from the state in which the one before it left the model.

        The request is admitted or refused by the call itself, so that the next may come at once; what that
        returns must be awaited. The requests of a sequence run one at a time, in the order of the calls. One
        that fails, or whose wait is cancelled, changes nothing: the state is that after the last one that was
        answered. Those which wait behind it fail too, as they would go on from something else; so do, after
        one that is refused at once, all that come before those ahead of it have been answered.

        Args:
            model: begins the sequence. It keeps to this version, whatever is newest later.
            sequence_id: the client's name for the sequence.
            inputs, outputs, deadline, priority: see `Engine.infer`. With `start`, states may be among the
                inputs; those left out begin at zero.
            start: it is the first request. A sequence that has the id already ends.
            end: it is the last one.
            owner: whose sequence it is: those of others are out of reach, whatever their ids.

        Returns:
            The outputs by name.

        Raises:
            SequenceError: the request does not fit the sequence.
            UnknownSequenceError, InterruptedSequenceError
            TooManyStreamsError: as many sequences and live streams are open as may be.
            OverloadedError, InvalidTensorsError, DeadlineExceededError, EngineStoppedError: see
                `Engine.submit`.
        """
        key = (owner, model.card.name, sequence_id)
        rows = max((tensor.shape[0] for tensor in inputs.values() if tensor.ndim), default=0)
        size = sum(tensor.nbytes for tensor in inputs.values())
        if start:
            sequence = self._begin(key, model, rows)
        else:
            sequence = self._find(key)
            self._admit(sequence, inputs, rows, size)
        place = sequence.enter()
        sequence.ended |= end
        self._waiting_bytes += size
        return self._follow(sequence, place, inputs, outputs, start, end, size, deadline, priority)

    async def _follow(
        self,
        sequence: _Sequence,
        place: _Place,
        inputs: Mapping[str, Tensor],
        outputs: Sequence[str],
        start: bool,
        end: bool,
        size: int,
        deadline: float | None,
        priority: int,
    ) -> dict[str, Tensor]:
        """What is left to do for a request once it has its place."""
        try:
            await _turn(sequence, deadline)
            try:
                if place.interrupted:
                    raise InterruptedSequenceError(
                        f"a request of sequence {sequence.key[2]!r} that was sent before this one failed; "
                        f"the state is that after the {sequence.answered} which were answered: go on from "
                        "there"
                    )
                answer = await self._run(sequence, inputs, outputs, deadline, priority)
            finally:
                sequence.turn.release()
        except BaseException:
            sequence.interrupt(place)
            sequence.ended &= not end
            if start:
                self._registry.end(sequence, Reason.FAILED)
            raise
        finally:
            sequence.leave(place)
            sequence.touched = self._clock().time()
            self._waiting_bytes -= size
        if end:
            self._registry.end(sequence, Reason.FINISHED)
        return answer

    def _begin(self, key: tuple[str, str, int | str], model: Model, rows: int) -> _Sequence:
        if rows > MOST_ROWS:
            raise SequenceError(f"the request has {rows} rows; a sequence may have {MOST_ROWS}")
        if not model.card.states:
            raise SequenceError(
                f"model {model.card.name} has no states; expected a request without sequence_id"
            )
        before = self._registry.get(key)
        if before is not None:
            self._registry.end(before, Reason.RESTARTED)
        sequence = _Sequence(key, model, self._idle_seconds, self._clock().time())
        self._registry.add(sequence)
        return sequence

    def _find(self, key: tuple[str, str, int | str]) -> _Sequence:
        _, name, sequence_id = key
        sequence = self._registry.get(key)
        if not isinstance(sequence, _Sequence):
            raise UnknownSequenceError(
                f"sequence {sequence_id!r} of model {name} {self._fate(key)}; it must be started with "
                "sequence_start"
            )
        if sequence.ended:
            raise UnknownSequenceError(
                f"sequence {sequence_id!r} of model {name} has had its request with sequence_end; another "
                "one must be started with sequence_start"
            )
        return sequence

    def _fate(self, key: tuple[str, str, int | str]) -> str:
        known = self._registry.ending(key)
        if known is None:
            return "is not known"
        ending, ago = known
        after = f"ended {ago:.0f} seconds ago, after {ending.memory} requests"
        match ending.reason:
            case Reason.IDLE:
                return f"{after} and {ending.patience:g} idle seconds"
            case Reason.FINISHED:
                return f"{after}, by sequence_end"
            case _:
                return f"{after}: {ending.reason}"

    def _admit(self, sequence: _Sequence, inputs: Mapping[str, Tensor], rows: int, size: int) -> None:
        """
        Raises:
            SequenceError, InterruptedSequenceError, OverloadedError: the request can't go on with it.
        """
        if sequence.refused:
            raise InterruptedSequenceError(
                f"a request of sequence {sequence.key[2]!r} that came before this one was refused, and "
                f"{len(sequence.places)} before that still wait or run: go on when these have been answered"
            )
        try:
            _check(sequence, inputs, rows)
            self._check_room(sequence, size)
        except (SequenceError, OverloadedError):
            sequence.refused = sequence.busy
            raise

    def _check_room(self, sequence: _Sequence, size: int) -> None:
        waiting = len(sequence.places)
        if waiting > MOST_WAITING:
            raise OverloadedError(
                f"{waiting} requests of sequence {sequence.key[2]!r} wait or run; they run one at a time",
                _RETRY_SECONDS,
            )
        if waiting and self._waiting_bytes + size > MOST_WAITING_BYTES:
            raise OverloadedError(
                f"{self._waiting_bytes} bytes of requests wait for others of their sequences; at most "
                f"{MOST_WAITING_BYTES} may",
                _RETRY_SECONDS,
            )

    async def _run(
        self,
        sequence: _Sequence,
        inputs: Mapping[str, Tensor],
        outputs: Sequence[str],
        deadline: float | None,
        priority: int,
    ) -> dict[str, Tensor]:
        states = sequence.model.card.states
        wanted = dict.fromkeys([*outputs, *(state.output for state in states)])
        answer = await self._engine.infer(
            sequence.model, {**sequence.states, **inputs}, [*wanted], deadline=deadline, priority=priority
        )
        # copies: a view would keep all of the batch
        sequence.states = {state.name: answer[state.output].copy() for state in states}
        sequence.rows = len(next(iter(sequence.states.values())))
        sequence.answered += 1
        return {name: answer[name] for name in outputs}


def _check(sequence: _Sequence, inputs: Mapping[str, Tensor], rows: int) -> None:
    """
    Raises:
        SequenceError: these are not the inputs of a later request of the sequence.
    """
    given = [state.name for state in sequence.model.card.states if state.name in inputs]
    if given:
        raise SequenceError(
            f"the request gives {', '.join(map(repr, given))}, which the sequence carries; expected states "
            "in its first request only"
        )
    if sequence.rows not in (None, rows):
        raise SequenceError(
            f"the request has {rows} rows; sequence {sequence.key[2]!r} was started with {sequence.rows}"
        )


async def _turn(sequence: _Sequence, deadline: float | None) -> None:
    """Wait until no other request of the sequence runs.

    Raises:
        DeadlineExceededError
    """
    try:
        async with asyncio.timeout_at(deadline):
            await sequence.turn.acquire()
    except TimeoutError:
        raise DeadlineExceededError(
            f"the request waited for others of sequence {sequence.key[2]!r} until its time was over"
        ) from None
