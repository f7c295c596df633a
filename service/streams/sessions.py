"""The live streams: who may start one, what a token stands for, and when one is given up."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from service.engine import Clock, Engine, Model, Timer
from service.frames.routes import timing
from service.settings import Settings
from service.streams.outbox import Outbox
from service.streams.pcm import Encoding, PCMDecoder
from service.streams.session import Listener, Reason, Session

log = structlog.get_logger(__name__)

_REMEMBERED = 4096  # streams that ended, of which it can be told why


class TooManyStreamsError(Exception):
    """As many streams are open as may be."""


class UnknownTokenError(LookupError):
    """A token that stands for no stream, or for one that ended; the message says which."""


@dataclass(frozen=True)
class _Ending:
    """What is remembered of a stream that can't be resumed any more."""

    secret: str
    reason: Reason
    when: float


class Sessions:
    """All streams, from when they are opened until nobody can resume them any more.

    An open stream ends by one way, `end`, and for one reason. Without a connection it is kept for a time, and
    so is a finished one for its result.

    Args:
        engine: runs the models.
        settings: the limits.
        clock: is asked for the clock; in a server it is the event loop.
    """

    def __init__(
        self, engine: Engine, settings: Settings, clock: Callable[[], Clock] = asyncio.get_running_loop
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._clock = clock
        self._open: dict[str, Session] = {}
        self._finished: OrderedDict[str, Session] = OrderedDict()
        self._timers: dict[str, Timer] = {}
        self._endings: OrderedDict[str, _Ending] = OrderedDict()

    def __len__(self) -> int:
        """How many streams are open, with or without a connection."""
        return len(self._open)

    def open(self, model: Model, encoding: Encoding, sample_rate: int, *, posteriors: bool) -> Session:
        """Begin a stream.

        Args:
            model: hears it; one that `frames.check` passed.
            encoding: of the audio that the client will send.
            sample_rate: of that audio, Hz.
            posteriors: whether each frame's probability of each class is told.

        Raises:
            TooManyStreamsError
        """
        if len(self._open) >= self._settings.max_streams:
            raise TooManyStreamsError(f"{len(self._open)} streams are open, as many as this server takes")
        name = secrets.token_hex(6)
        session = Session(
            name,
            self._engine,
            model,
            PCMDecoder(encoding, sample_rate, timing(model.card)[0]),
            Outbox(f"{name}.{secrets.token_urlsafe(16)}", self._settings.stream_replay_bytes),
            posteriors=posteriors,
            max_seconds=self._settings.max_stream_seconds,
            time=self._clock().time,
            end=self.end,
        )
        self._open[name] = session
        self._watch(session)
        return session

    def find(self, token: str) -> tuple[Session, int]:
        """The stream that a token stands for, and the number of the last message its holder has.

        Raises:
            UnknownTokenError
        """
        secret, _, number = token.rpartition(".")
        name = secret.partition(".")[0]
        session = self._open.get(name) or self._finished.get(name)
        if session is not None and _same(secret, session.outbox.name) and _is_number(number):
            return session, int(number)
        ended = self._endings.get(name)
        if ended is not None and _same(secret, ended.secret):
            ago = self._clock().time() - ended.when
            raise UnknownTokenError(f"the stream ended {ago:.0f} seconds ago: {self._why(ended.reason)}")
        raise UnknownTokenError(
            "no stream has this token; it ended long ago, or was another server's or this one's before it "
            "was started anew"
        )

    def attach(self, session: Session, listener: Listener, number: int) -> None:
        """Let a connection carry the stream, whose client has the messages up to `number`. One that still
        carries it loses it.

        Raises:
            MessagesGoneError
        """
        session.resume(number)
        before, session.listener = session.listener, listener
        session.connections += 1
        self._touch(session)
        if before is not None:
            before.end(Reason.TAKEN_OVER)

    def detach(self, session: Session, listener: Listener) -> None:
        """A connection carries the stream no more, if it did until now."""
        if session.listener is listener:
            session.listener = None
            self._touch(session)

    def end(self, session: Session, reason: Reason) -> None:
        """End a stream: the only way out. A finished one stays for a while, for its result."""
        if self._open.pop(session.name, None) is None:
            return
        log.info(
            "stream",
            stream=session.name,
            reason=str(reason),
            model=session.model.card.name,
            version=session.model.card.version,
            frames=session.frames,
            seconds=round(session.seconds, 3),
            connections=session.connections,
        )
        if reason is Reason.FINISHED:
            self._finished[session.name] = session
            if len(self._finished) > self._settings.max_streams:
                self._forget(next(iter(self._finished.values())), reason)
            return
        session.abandon()
        self._forget(session, reason)
        listener, session.listener = session.listener, None
        if listener is not None:
            listener.end(reason)

    def shutdown(self) -> None:
        """End all streams."""
        for session in [*self._open.values()]:
            self.end(session, Reason.SHUTDOWN)
        for session in [*self._finished.values()]:
            self._forget(session, Reason.SHUTDOWN)

    def _forget(self, session: Session, reason: Reason) -> None:
        self._finished.pop(session.name, None)
        self._timers.pop(session.name).cancel()
        self._endings[session.name] = _Ending(session.outbox.name, reason, self._clock().time())
        if len(self._endings) > _REMEMBERED:
            self._endings.popitem(last=False)

    def _touch(self, session: Session) -> None:
        """Count the time that it may be left alone from now, with the limit that holds now."""
        session.touched = self._clock().time()
        if session.name in self._timers:  # else it has been given up, and its last connection just goes
            self._timers[session.name].cancel()
            self._watch(session)

    def _watch(self, session: Session) -> None:
        self._timers[session.name] = self._clock().call_at(self._due(session), self._look, session)

    def _due(self, session: Session) -> float:
        """When the stream is to be given up if nothing more happens."""
        limit = (
            self._settings.stream_resume_seconds
            if session.listener is None or session.finished
            else self._settings.stream_idle_seconds
        )
        since = self._clock().time() if session.busy else session.touched
        return since + limit

    def _look(self, session: Session) -> None:
        """The timer's callback. It is not moved at every chunk, so it may come early."""
        if self._due(session) > self._clock().time():
            self._watch(session)
        elif session.finished:
            self._forget(session, Reason.FINISHED)
        else:
            self.end(session, Reason.IDLE if session.listener is not None else Reason.EXPIRED)

    def _why(self, reason: Reason) -> str:
        match reason:
            case Reason.FINISHED:
                return (
                    f"it was finished, and its result was kept for {self._settings.stream_resume_seconds:g} s"
                )
            case Reason.EXPIRED:
                return f"it had no connection for {self._settings.stream_resume_seconds:g} s"
            case Reason.IDLE:
                return f"it got no audio for {self._settings.stream_idle_seconds:g} s"
            case _:
                return f"the reason was: {reason}"


def _same(secret: str, other: str) -> bool:
    return secret.isascii() and secrets.compare_digest(secret, other)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 12
