"""The live streams of WebSockets: begun, gone on with by those who have a token, carried by connections."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from service.engine import Clock, Engine, Model
from service.frames.routes import timing
from service.settings import Settings
from service.streams.outbox import Outbox
from service.streams.pcm import Encoding, PCMDecoder
from service.streams.registry import Ending, Reason, Registry
from service.streams.session import Listener, Remains, Session


class UnknownTokenError(LookupError):
    """A token that stands for no stream, or for one that ended; the message says which."""


class Sessions:
    """The live streams in a registry.

    Args:
        engine: runs the models.
        settings: the limits.
        registry: has them all.
        clock: is asked for the clock; in a server it is the event loop.
    """

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        registry: Registry,
        clock: Callable[[], Clock] = asyncio.get_running_loop,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._registry = registry
        self._clock = clock

    def open(self, model: Model, encoding: Encoding, sample_rate: int, *, posteriors: bool) -> Session:
        """Begin a stream.

        Args:
            model: hears it, to its end; one that `frames.check` passed.
            encoding: of the audio that the client will send.
            sample_rate: of that audio, Hz.
            posteriors: whether each frame's probability of each class is told.

        Raises:
            TooManyStreamsError, EngineStoppedError
        """
        name = secrets.token_hex(6)
        session = Session(
            name,
            self._engine,
            model,
            PCMDecoder(encoding, sample_rate, timing(model.card)[0]),
            Outbox(f"{name}.{secrets.token_urlsafe(16)}", self._settings.stream_replay_bytes),
            posteriors=posteriors,
            settings=self._settings,
            time=self._clock().time,
            end=self._registry.end,
        )
        self._registry.add(session)
        return session

    def find(self, token: str) -> tuple[Session, int]:
        """The stream that a token stands for, and the number of the last message its holder has.

        Raises:
            UnknownTokenError
        """
        secret, _, number = token.rpartition(".")
        name = secret.partition(".")[0]
        session = self._registry.get(name)
        if isinstance(session, Session) and _same(secret, session.outbox.name) and _is_number(number):
            return session, int(number)
        known = self._registry.ending(name)
        if known is not None:
            ending, ago = known
            if isinstance(ending.memory, Remains) and _same(secret, ending.memory.secret):
                raise UnknownTokenError(f"the stream ended {ago:.0f} seconds ago: {_why(ending)}")
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
        if session.connections > 1:
            self._registry.resumed += 1
        self._touch(session)
        if before is not None:
            before.end(Reason.TAKEN_OVER)

    def detach(self, session: Session, listener: Listener) -> None:
        """A connection carries the stream no more, if it did until now."""
        if session.listener is listener:
            session.listener = None
            self._touch(session)

    def fail(self, session: Session) -> None:
        """End a stream that went wrong."""
        self._registry.end(session, Reason.FAILED)

    def _touch(self, session: Session) -> None:
        """Count the time that it may be left alone from now, with the limit that holds now."""
        session.touched = self._clock().time()
        self._registry.watch(session)


def _why(ending: Ending) -> str:
    match ending.reason:
        case Reason.FINISHED:
            return f"it was finished, and its result was kept for {ending.patience:g} s"
        case Reason.EXPIRED:
            return f"it had no connection for {ending.patience:g} s"
        case Reason.IDLE:
            return f"it got no audio for {ending.patience:g} s"
        case Reason.MOVED:
            return "it was moved to another server"
        case _:
            return f"the reason was: {ending.reason}"


def _same(secret: str, other: str) -> bool:
    return secret.isascii() and secrets.compare_digest(secret, other)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 12
