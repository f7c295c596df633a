"""One connection of WS /v1/frames/stream."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import orjson
import structlog
from starlette.types import Message, Receive, Scope, Send

from service.engine import Engine, EngineStoppedError, ModelUnavailableError, StoreError, UnknownModelError
from service.frames import routes as frames
from service.frames.audio import InvalidSamplesError
from service.http.access import is_still_allowed
from service.settings import Settings
from service.streams.outbox import MessagesGoneError
from service.streams.protocol import (
    EXPECTED_OPENING,
    Disconnected,
    Failure,
    Resume,
    Start,
    ended,
    parse_later,
    parse_opening,
)
from service.streams.registry import RETRY_SECONDS, Reason, TooManyStreamsError
from service.streams.session import AudioTooLongError, Session
from service.streams.sessions import Sessions, UnknownTokenError
from service.streams.sockets import socket_of

log = structlog.get_logger(__name__)

_LATER = f"another attempt in {RETRY_SECONDS} seconds"
_CLOSING_SECONDS = 2  # for a client to take the last message


class Connection:
    """A WebSocket from its handshake to its end. What arrives feeds the stream at once, and what the stream
    has to say is sent at once, unless one has to wait for the other.

    Args:
        engine: has the models.
        sessions: the streams.
        settings: the limits.
        scope, receive, send: the connection, as ASGI has it.
    """

    def __init__(
        self,
        engine: Engine,
        sessions: Sessions,
        settings: Settings,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self._engine = engine
        self._sessions = sessions
        self._settings = settings
        self._scope = scope
        self._receive = receive
        self._send = send
        self._socket = socket_of(scope, receive, send)
        self._session: Session | None = None
        self._loop = asyncio.get_running_loop()
        # Why the connection ends; None: the client has got its result.
        self._outcome: asyncio.Future[Failure | None] = self._loop.create_future()
        self._held: deque[bytes | str] = deque()  # read, while the stream takes nothing
        self._draining = False
        self._deadline: asyncio.TimerHandle | None = None  # for the client to begin, or to take a message

    async def run(self) -> None:
        """Carry the connection from its handshake to its end."""
        await self._receive()
        try:
            await self._write_now({"type": "websocket.accept"})
        except Disconnected:
            return
        self._deadline = self._loop.call_later(self._settings.stream_start_seconds, self._not_begun)
        listening = asyncio.create_task(self._listen())
        try:
            failure = await self._outcome
        finally:
            self._in_time()
            listening.cancel()
            if self._session is not None:
                self._sessions.detach(self._session, self)
        await asyncio.wait([listening])
        if not isinstance(failure, Disconnected):
            await self._close(failure)
        outcome = "finished" if failure is None else failure.code
        log.info("stream connection", stream=self._session and self._session.name, outcome=outcome)

    def received(self, message: bytes | str) -> None:
        """See `Receiver`."""
        if not is_still_allowed(self._scope):
            self._settle(
                Failure(
                    "key_revoked",
                    4401,
                    "the API key that the connection was made with has been revoked",
                    "another key; resume with it",
                    resumable=True,
                )
            )
            return
        self._held.append(message)
        self._guard(self._read)

    def writable(self) -> None:
        """See `Receiver`."""
        self._in_time()
        self._guard(self._advance)

    def notify(self) -> None:
        """See `Listener`."""
        self._guard(self._advance)

    def end(self, reason: Reason) -> None:
        """See `Listener`."""
        self._settle(ended(reason, self._settings.stream_idle_seconds))

    def drain(self) -> None:
        """Take no more from the client; end when what was taken has been answered."""
        self._draining = True
        self._socket.pause()
        self._guard(self._advance)

    async def _listen(self) -> None:
        try:
            await self._socket.listen(self)
        except Exception:
            self._fail()
        else:
            self._settle(Disconnected())

    def _settle(self, failure: Failure | None) -> None:
        if not self._outcome.done():
            self._outcome.set_result(failure)

    def _guard(self, work: Callable[[], None]) -> None:
        if self._outcome.done():
            return
        try:
            work()
        except Failure as failure:
            self._settle(failure)
        except Exception:
            self._fail()

    def _fail(self) -> None:
        log.exception("stream connection failed", stream=self._session and self._session.name)
        if self._session is not None:
            self._sessions.fail(self._session)
        self.end(Reason.FAILED)

    def _advance(self) -> None:
        """Send what can be sent, and take what can be taken.

        Raises:
            Failure
        """
        session = self._session
        if session is not None:
            self._flush(session)
        if not self._draining:
            self._read()
        elif session is None or (session.settled and session.outbox.next() is None):
            self.end(Reason.SHUTDOWN)

    def _read(self) -> None:
        """Take what the client has sent, as far as the stream takes it. A client that has finished has
        nothing more to say.

        Raises:
            Failure
        """
        held = self._held
        if self._session is None and held and not self._draining:
            self._open(held.popleft())
        session = self._session
        if session is None:
            return
        while not (session.full or session.finishing or self._draining):
            if not held:
                self._socket.resume()
                return
            self._take(session, held.popleft())
        self._socket.pause()

    def _take(self, session: Session, message: bytes | str) -> None:
        """Feed the stream with a message.

        Raises:
            Failure
        """
        limit = self._settings.max_chunk_bytes
        if len(message) > limit:
            raise Failure(
                "message_too_large",
                1009,
                f"the message has {len(message)} bytes",
                f"at most {limit} bytes a message; resume and send smaller ones",
                resumable=True,
            )
        if isinstance(message, str):
            parse_later(message)
            session.finish()
            return
        try:
            session.feed(message)
        except InvalidSamplesError as error:
            raise Failure(
                "invalid_audio", 1007, str(error), "numbers from -1 to 1", resumable=True
            ) from error
        except AudioTooLongError as error:
            expected = f"at most {self._settings.max_stream_seconds:g} seconds; resume and finish"
            raise Failure("audio_too_long", 1008, str(error), expected, resumable=True) from error

    def _flush(self, session: Session) -> None:
        """Send what the stream has to say, as far as the client takes it."""
        socket, outbox = self._socket, session.outbox
        while (text := outbox.next()) is not None:
            if socket.blocked:
                if self._deadline is None:
                    patience = self._settings.stream_stall_seconds
                    self._deadline = self._loop.call_later(patience, self._not_reading)
                return
            socket.write(text)
            session.mark_sent()
        if session.finished:
            self._settle(None)

    def _in_time(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _not_begun(self) -> None:
        detail = f"there was no message for {self._settings.stream_start_seconds:g} seconds"
        self._settle(Failure("start_timeout", 4408, detail, EXPECTED_OPENING))

    def _not_reading(self) -> None:
        patience = self._settings.stream_stall_seconds
        self._settle(
            Failure(
                "not_reading",
                4408,
                f"no message could be sent for {patience:g} seconds",
                "a client that reads what it is sent",
                resumable=True,
            )
        )

    def _open(self, message: bytes | str) -> None:
        """Begin the stream, or go on with one, as the client's first message says.

        Raises:
            Failure
        """
        self._in_time()
        if isinstance(message, bytes):
            raise Failure("binary_first", 1003, "the first message is binary", EXPECTED_OPENING)
        opening = parse_opening(message)
        if isinstance(opening, Start):
            session, answer = self._begin(opening)
        else:
            session, answer = self._go_on(opening)
        self._session = session
        self._socket.write(orjson.dumps(answer))
        self._flush(session)

    def _begin(self, start: Start) -> tuple[Session, dict[str, Any]]:
        settings = self._settings
        if not settings.min_sample_rate <= start.sample_rate <= settings.max_sample_rate:
            raise Failure(
                "invalid_message",
                1008,
                f"the sample rate is {start.sample_rate} Hz",
                f"{settings.min_sample_rate} to {settings.max_sample_rate} Hz",
            )
        try:
            model = self._engine.model(start.model, start.version)
            frames.check(model)
        except (UnknownModelError, StoreError) as error:
            raise Failure("unknown_model", 1008, str(error), "the name of a frames model") from error
        except ModelUnavailableError as error:
            raise Failure(
                "model_unavailable", 1013, str(error), _LATER, retry_seconds=RETRY_SECONDS
            ) from error
        try:
            session = self._sessions.open(
                model, start.encoding, start.sample_rate, posteriors=start.probabilities
            )
        except TooManyStreamsError as error:
            raise Failure(
                "too_many_streams", 1013, str(error), _LATER, retry_seconds=RETRY_SECONDS
            ) from error
        except EngineStoppedError:
            raise ended(Reason.SHUTDOWN, 0) from None
        self._sessions.attach(session, self, 0)
        rate, hop = frames.timing(model.card)
        return session, {
            "type": "started",
            "stream": session.name,
            "model": model.card.name,
            "version": model.card.version,
            "classes": model.card.labels,
            "hop_seconds": hop / rate,
            "sample_rate": rate,
            "resume_seconds": settings.stream_resume_seconds,
            "limits": {
                "message_bytes": settings.max_chunk_bytes,
                "audio_seconds": settings.max_stream_seconds,
                "idle_seconds": settings.stream_idle_seconds,
            },
            "resume": session.outbox.token(0),
        }

    def _go_on(self, resume: Resume) -> tuple[Session, dict[str, Any]]:
        try:
            session, number = self._sessions.find(resume.token)
            self._sessions.attach(session, self, number)
        except UnknownTokenError as error:
            raise Failure("unknown_stream", 4404, str(error), "a new stream") from error
        except MessagesGoneError as error:
            raise Failure("messages_gone", 4410, str(error), "a new stream") from error
        return session, {
            "type": "resumed",
            "stream": session.name,
            "samples": session.samples,
            "frames": session.frames,
            "finished": session.finishing,
            "resume": resume.token,
        }

    async def _write_now(self, message: Message) -> None:
        try:
            await self._send(message)
        except (OSError, RuntimeError) as error:  # from servers whose connection is closed or closing
            raise Disconnected from error

    async def _close(self, failure: Failure | None) -> None:
        try:
            async with asyncio.timeout(_CLOSING_SECONDS):
                code, reason = 1000, "finished"
                if failure is not None:
                    token = None
                    if self._session is not None:
                        token = self._session.outbox.token(self._session.outbox.sent)
                    text = orjson.dumps(failure.message(token)).decode()
                    await self._write_now({"type": "websocket.send", "text": text})
                    code, reason = failure.close, failure.code
                await self._write_now({"type": "websocket.close", "code": code, "reason": reason})
        except (TimeoutError, Disconnected):
            pass  # nobody is there to read it
