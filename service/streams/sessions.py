"""The live streams of WebSockets: begun, gone on with by those who have a token, carried by connections."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from service.engine import Clock, Engine, Model
from service.frames.routes import timing
from service.settings import Settings
from service.streams.outbox import FULL, Outbox
from service.streams.pcm import Encoding, PCMDecoder
from service.streams.registry import Ending, Reason, Registry
from service.streams.session import Listener, Remains, Session
from service.streams.snapshot import InvalidSnapshotError, Snapshot


class UnknownTokenError(LookupError):
    """A token that stands for no stream, or for one that ended; the message says which."""


class StreamExistsError(RuntimeError):
    """A stream has the name, or had it and ended, so that nobody else may go on with it; the message says
    which.
    """


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
        decoder = PCMDecoder(encoding, sample_rate, timing(model.card)[0])
        outbox = Outbox(f"{name}.{_new_secret()}", self._settings.stream_replay_bytes)
        session = self._session(name, model, decoder, outbox, posteriors=posteriors)
        self._registry.add(session)
        return session

    def adopt(self, name: str, model: Model, snapshot: Snapshot) -> Session:
        """Go on with a stream of another server, or with a copy of one.

        Args:
            name: under which to go on. With the stream's own its tokens stay good; another one makes it a
                stream of its own, with tokens of its own.
            model: the one that heard it.
            snapshot: the stream.

        Raises:
            InvalidSnapshotError: it is not one of a stream that this model heard.
            StreamExistsError: this server has, or had, a stream of the name that is ahead of it.
            TooManyStreamsError, EngineStoppedError
        """
        self._check_new(name, snapshot)
        secret = snapshot.secret if name == snapshot.stream else _new_secret()
        decoder = PCMDecoder(
            snapshot.encoding, snapshot.sample_rate, timing(model.card)[0], samples=snapshot.samples
        )
        messages = [message.encode() for message in snapshot.messages]
        most = self._settings.stream_replay_bytes + 2 * FULL  # more than a server with these settings keeps
        if (size := sum(map(len, messages))) > most:
            raise InvalidSnapshotError(
                f"it has {size} bytes of messages; expected at most {most}, by --stream-replay-bytes here"
            )
        outbox = Outbox(f"{name}.{secret}", self._settings.stream_replay_bytes, snapshot.first, messages)
        session = self._session(name, model, decoder, outbox, posteriors=snapshot.probabilities)
        session.restore(snapshot)
        self._registry.add(session)
        session.proceed()
        return session

    def named(self, name: str) -> Session:
        """The stream of this name.

        Raises:
            UnknownTokenError
        """
        session = self._registry.get(name)
        if not isinstance(session, Session):
            raise UnknownTokenError(f"there is no stream {name!r}")
        return session

    def moved(self, session: Session) -> None:
        """End a stream that goes on elsewhere."""
        self._registry.end(session, Reason.MOVED)

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
        session.proceed()  # as there may be room in its outbox now

    def detach(self, session: Session, listener: Listener) -> None:
        """A connection carries the stream no more, if it did until now."""
        if session.listener is listener:
            session.listener = None
            self._touch(session)

    def fail(self, session: Session) -> None:
        """End a stream that went wrong."""
        self._registry.end(session, Reason.FAILED)

    def _session(
        self, name: str, model: Model, decoder: PCMDecoder, outbox: Outbox, *, posteriors: bool
    ) -> Session:
        return Session(
            name,
            self._engine,
            model,
            decoder,
            outbox,
            posteriors=posteriors,
            settings=self._settings,
            time=self._clock().time,
            end=self._registry.end,
        )

    def _check_new(self, name: str, snapshot: Snapshot) -> None:
        """
        Raises:
            StreamExistsError
        """
        if self._registry.get(name) is not None:
            raise StreamExistsError(f"there is a stream {name} here")
        known = self._registry.ending(name)
        if known is None:
            return
        ending, ago = known
        last = ending.memory
        if not isinstance(last, Remains) or last.secret != f"{name}.{snapshot.secret}":
            return
        if ending.reason is not Reason.MOVED:
            raise StreamExistsError(f"stream {name} ended here {ago:.0f} seconds ago: {_why(ending)}")
        if snapshot.samples < last.samples:
            raise StreamExistsError(
                f"stream {name} had taken {last.samples} samples when it was moved from here, {ago:.0f} "
                f"seconds ago; this is an older one, of {snapshot.samples}"
            )

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


def _new_secret() -> str:
    return secrets.token_urlsafe(16)


def _same(secret: str, other: str) -> bool:
    return secret.isascii() and secrets.compare_digest(secret, other)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 12
