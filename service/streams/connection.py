"""One connection of WS /v1/frames/stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import orjson
import structlog
from starlette.types import Message, Receive, Send

from service.engine import Engine, StoreError, UnknownModelError
from service.frames import routes as frames
from service.frames.audio import InvalidSamplesError
from service.settings import Settings
from service.streams.outbox import MessagesGoneError
from service.streams.protocol import (
    EXPECTED_OPENING,
    Disconnected,
    Failure,
    Resume,
    Start,
    parse_later,
    parse_opening,
)
from service.streams.session import AudioTooLongError, Reason, Session
from service.streams.sessions import Sessions, TooManyStreamsError, UnknownTokenError

log = structlog.get_logger(__name__)

_CLOSING_SECONDS = 2  # for a client to take the last message
_RETRY_SECONDS = 5


class Connection:
    """A WebSocket from its handshake to its end. One task reads and feeds the stream, another one writes what
    the stream has to say.

    Args:
        engine: has the models.
        sessions: the streams.
        settings: the limits.
        receive, send: the connection, as ASGI has it.
    """

    def __init__(
        self, engine: Engine, sessions: Sessions, settings: Settings, receive: Receive, send: Send
    ) -> None:
        self._engine = engine
        self._sessions = sessions
        self._settings = settings
        self._receive = receive
        self._send = send
        self._session: Session | None = None
        self._tasks: list[asyncio.Task[None]] = []
        # Why the connection ends; None: the client has got its result.
        self._outcome: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._sending_since: float | None = None

    async def run(self) -> None:
        """Carry the connection from its handshake to its end."""
        await self._receive()
        try:
            await self._write_now({"type": "websocket.accept"})
        except Disconnected:
            return
        self._start(self._read)
        try:
            failure = await self._outcome
        finally:
            for task in self._tasks:
                task.cancel()
            if self._session is not None:
                self._sessions.detach(self._session, self)
        await asyncio.wait(self._tasks)
        if not isinstance(failure, Disconnected):
            await self._close(failure)
        outcome = "finished" if failure is None else failure.code
        log.info("stream connection", stream=self._session and self._session.name, outcome=outcome)

    def notify(self) -> None:
        """See `Listener`."""
        self._news.set()
        self._room.set()

    def end(self, reason: Reason) -> None:
        """See `Listener`."""
        self._settle(_failure(reason, self._settings))

    def _settle(self, failure: Failure | None) -> None:
        if not self._outcome.done():
            self._outcome.set_result(failure)

    def _start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._tasks.append(asyncio.create_task(self._guard(work)))

    async def _guard(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except Failure as failure:
            self._settle(failure)
        except Exception:
            log.exception("stream connection failed", stream=self._session and self._session.name)
            if self._session is not None:
                self._sessions.end(self._session, Reason.FAILED)
            self.end(Reason.FAILED)

    async def _read(self) -> None:
        session = await self._open()
        self._start(partial(self._write, session))
        while True:
            while session.full or session.finishing:  # a client that has finished has nothing more to say
                await self._wait_for_room()
            message = await self._next()
            if session.listener is not self:  # it is for the next connection to send
                return
            self._take(session, message)

    def _take(self, session: Session, message: Message) -> None:
        """Feed the stream with a message.

        Raises:
            Failure
        """
        limit = self._settings.max_chunk_bytes
        data, text = message.get("bytes"), message.get("text")
        size = len(text or b"" if data is None else data)
        if size > limit:
            raise Failure(
                "message_too_large",
                1009,
                f"the message has {size} bytes",
                f"at most {limit} bytes a message; resume and send smaller ones",
                resumable=True,
            )
        if data is None:
            parse_later(text or "")
            session.finish()
            return
        try:
            session.feed(data)
        except InvalidSamplesError as error:
            raise Failure(
                "invalid_audio", 1007, str(error), "numbers from -1 to 1", resumable=True
            ) from error
        except AudioTooLongError as error:
            expected = f"at most {self._settings.max_stream_seconds:g} seconds; resume and finish"
            raise Failure("audio_too_long", 1008, str(error), expected, resumable=True) from error

    async def _wait_for_room(self) -> None:
        """Wait for the stream to change, but not for a client that takes no messages.

        Raises:
            Failure
        """
        self._room.clear()
        patience = self._settings.stream_stall_seconds
        try:
            async with asyncio.timeout(patience):
                await self._room.wait()
        except TimeoutError:
            now = asyncio.get_running_loop().time()
            if self._sending_since is not None and now - self._sending_since >= patience:
                raise Failure(
                    "not_reading",
                    4408,
                    f"no message could be sent for {patience:g} seconds",
                    "a client that reads what it is sent",
                    resumable=True,
                ) from None

    async def _write(self, session: Session) -> None:
        """Send what the stream has to say, until its result."""
        outbox = session.outbox
        time = asyncio.get_running_loop().time
        while True:
            while (text := outbox.next()) is not None:
                self._sending_since = time()
                await self._write_now({"type": "websocket.send", "text": text})
                self._sending_since = None
                if session.listener is not self:
                    return
                session.mark_sent()
                if not session.full:
                    self._room.set()
            if session.finished:
                self._settle(None)
                return
            self._news.clear()
            await self._news.wait()

    async def _open(self) -> Session:
        """Begin the stream, or go on with one, as the client's first message says.

        Raises:
            Failure
        """
        patience = self._settings.stream_start_seconds
        try:
            async with asyncio.timeout(patience):
                message = await self._next()
        except TimeoutError:
            detail = f"there was no message for {patience:g} seconds"
            raise Failure("start_timeout", 4408, detail, EXPECTED_OPENING) from None
        text = message.get("text")
        if text is None:
            raise Failure("binary_first", 1003, "the first message is binary", EXPECTED_OPENING)
        opening = parse_opening(text)
        if isinstance(opening, Start):
            session, answer = self._begin(opening)
        else:
            session, answer = self._go_on(opening)
        await self._write_json(answer)
        return session

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
            model = self._engine.model(start.model)
            frames.check(model)
        except (UnknownModelError, StoreError) as error:
            raise Failure("unknown_model", 1008, str(error), "the name of a frames model") from error
        try:
            session = self._sessions.open(
                model, start.encoding, start.sample_rate, posteriors=start.probabilities
            )
        except TooManyStreamsError as error:
            raise Failure(
                "too_many_streams",
                1013,
                str(error),
                f"another attempt in {_RETRY_SECONDS} seconds",
                retry_seconds=_RETRY_SECONDS,
            ) from error
        self._sessions.attach(session, self, 0)
        self._session = session
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
        self._session = session
        return session, {
            "type": "resumed",
            "stream": session.name,
            "samples": session.samples,
            "frames": session.frames,
            "finished": session.finishing,
            "resume": resume.token,
        }

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            raise Disconnected
        return message

    async def _write_json(self, message: dict[str, Any]) -> None:
        await self._write_now({"type": "websocket.send", "text": orjson.dumps(message).decode()})

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
                    await self._write_json(failure.message(token))
                    code, reason = failure.close, failure.code
                await self._write_now({"type": "websocket.close", "code": code, "reason": reason})
        except (TimeoutError, Disconnected):
            pass  # nobody is there to read it


def _failure(reason: Reason, settings: Settings) -> Failure:
    """What a client is told whose stream ended, or was taken over, without its doing."""
    match reason:
        case Reason.IDLE:
            detail = f"there was no audio for {settings.stream_idle_seconds:g} seconds"
            return Failure("idle", 4408, detail, 'audio, or {"type": "finish"}')
        case Reason.TAKEN_OVER:
            return Failure("taken_over", 4409, "another connection has resumed this stream")
        case Reason.SHUTDOWN:
            return Failure("shutting_down", 1001, "the server is shutting down", resumable=True)
        case _:
            return Failure("failed", 1011, "the server failed at this stream; its log has the details")
