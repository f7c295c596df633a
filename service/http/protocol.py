"""HTTP on a connection: uvicorn's, with bounds for clients that send or read slowly, and fewer writes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import httptools
import structlog
from starlette.responses import Response
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.http.date import Date
from service.http.direct import Direct, Exchange, Way
from service.http.headers import content_length, header
from service.http.problems import StatusProblem
from service.http.refusals import Refusal, Refusals
from service.http.writer import AnswerWriter, as_bytes, last_answer

log = structlog.get_logger(__name__)

_LONGEST_HEAD = 2**16  # bytes, of trailers too; what arrives in one piece with its end is taken anyway
_PROBES = b"/v2/health/"
_SPARE_CONNECTIONS = 8  # for probes
_MUCH = 2**63  # bytes
_MOST_WAITING = 256  # requests that arrived before the answers to earlier ones: each takes time to be read
_TOGETHER_SECONDS = 0.05  # many clients send head and body by two writes
_CLOSE = (b"connection", b"close")


class HTTPProtocol(HttpToolsProtocol):
    """Ends connections whose request's head does not arrive in time, or grows too long, and those that do not
    take their answer. Uvicorn would keep them for as long as the client likes. While a request is being
    answered its deadline counts. What ends a connection is answered after all requests that came before it.

    Args:
        connections: how many there may be. A few more may ask for the server's health, so that one that has
            much to do is not taken for a dead one; all others are told so and closed.
        head_seconds: how long a head may take, counted from the connection's beginning for the first; also
            what is left for the rest of a body that was answered without being read, even if the answer
            ends the connection: a client that is cut off while it sends does not see why.
        answer_seconds: how long a client may take nothing of an answer.
        refusals: where these are counted.
        direct: answers requests that have arrived whole, if it can.
        date: of the answers.
    """

    def __init__(
        self,
        *args: Any,
        connections: int,
        head_seconds: float,
        answer_seconds: float,
        refusals: Refusals,
        direct: Direct | None,
        date: Date,
        **more: Any,
    ) -> None:
        super().__init__(*args, **more)
        self.url = b""
        self._date = date
        self._most_connections = connections
        self._head_seconds = head_seconds
        self._answer_seconds = answer_seconds
        self._refusals = refusals
        self._direct = direct
        self._arriving: _Request | None = None  # its body is
        self._exchange: Exchange | None = None
        self._writer: AnswerWriter
        self._in_head = True  # what arrives next is a head's
        self._head_size = 0  # bytes since the last ones that were a body's: of a head, or of trailers
        self._spare = False  # only probes may use this connection
        self._unanswered = 0  # requests
        self._last_words: bytes | None = None  # a refusal, if not b""; nothing after its cause counts
        self._stopping = False  # the server is
        self._lingering = False  # all has been said; what the client still sends is only taken off it
        self._head_again: bytes | None = None  # is to be parsed once more
        self._begun: RequestResponseCycle | None = None  # the newest request of which that is true
        self._head_timer: asyncio.TimerHandle | None = None
        self._upgraded = False
        self._unsent = 0  # bytes of answers, when it was last looked
        self._stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._writer = AnswerWriter(transport, self.loop, self._close)
        beyond = len(self.connections) - self._most_connections
        self._spare = beyond > 0
        if beyond > _SPARE_CONNECTIONS:
            self._refuse_connection()
        else:
            self._await_client()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_awaiting()
        self._unset_keepalive_if_required()  # of one that was reset, too
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        self._begin_late()  # it is seen off like others
        if (exchange := self._exchange) is not None:
            self._exchange = None
            exchange.disconnect()
        if self._begun is not None and not self._begun.response_complete:
            _disconnect(self._begun)  # uvicorn tells only the newest request, which may wait for this one
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._last_words is not None:
            return
        self._head_size += len(data)
        self._unset_keepalive_if_required()
        self._parse(data)
        if self._head_size > _LONGEST_HEAD:
            what = "head has" if self._in_head else "trailers have"
            self._refuse(
                Refusal.HEAD_TOO_LARGE,
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"the {what} {self._head_size} bytes and no end",
                f"at most {_LONGEST_HEAD} bytes",
            )
        elif self._head_timer is None and not self._answering() and not self._upgraded:
            self._await_client()

    def _parse(self, data: bytes) -> None:
        while data and self._last_words is None:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
                return
            except httptools.HttpParserUpgrade as upgrade:
                if self._should_upgrade():
                    self.handle_websocket_upgrade()
                    return
                data = data[upgrade.args[0] :]
                if (head := self._head_again) is not None:
                    self._head_again = None
                    self.parser = httptools.HttpRequestParser(self)
                    self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
                    data = head + data

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # trailers are nobody's
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_awaiting()
        if self._spare and not self.url.startswith(_PROBES):
            self._refuse_connection()
        self._head_size = 0
        if self._last_words is not None:
            return
        if self.parser.get_method() == b"CONNECT":
            self.send_400_response("this is no proxy: it takes no CONNECT")
            return
        if self.parser.should_upgrade() and self._has_body() and not self._should_upgrade():
            self._head_again = self._head_of_http()
            return
        before = self.cycle
        self.server_state.default_headers = self._date.headers()
        super().on_headers_complete()
        self._in_head = False
        if self.cycle is not before:  # else it is a WebSocket's handshake
            self._unanswered += 1
            self.cycle.transport = self._writer  # type: ignore[assignment]
            self.cycle.keep_alive &= not self._spare
            if len(self.pipeline) > _MOST_WAITING:
                self._refuse(
                    Refusal.PIPELINED,
                    HTTPStatus.TOO_MANY_REQUESTS,
                    f"{_MOST_WAITING} requests of this connection wait for their turn, and no more may",
                    "the next request after the answer to one before, or on another connection",
                    {"Retry-After": "1"},
                )

    def on_body(self, body: bytes) -> None:
        self._head_size = 0
        if self._last_words is None:
            super().on_body(body)

    def _has_body(self) -> bool:
        scope = cast(Scope, self.scope)
        return header(scope, b"transfer-encoding") is not None or content_length(scope) > 0

    def _head_of_http(self) -> bytes:
        """The head of a request whose client would like another protocol, as Java's does with HTTP/2, without
        that wish: the parser would take the body for the other protocol's.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        lines = [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([method + b" " + self.url + b" HTTP/" + version, *lines, b"", b""])

    def on_message_complete(self) -> None:
        self._in_head = True
        self._head_size = 0
        if self._last_words is not None or self._head_again is not None:
            return
        super().on_message_complete()
        if (arriving := self._arriving) is not None and not arriving.cycle.more_body:
            self._stop_arriving()
            self._begin(arriving)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Uvicorn calls this for each request when the one before it has been answered."""
        self._begun = cycle
        way = None
        if self._direct is not None and not self.flow.write_paused:
            way = self._direct.find(cycle.scope)  # type: ignore[arg-type]
        if way is None:
            super()._start_asgi_task(cycle, app)
            return
        request = _Request(cycle, app, way)
        if cycle.more_body:
            request.timer = self.loop.call_later(_TOGETHER_SECONDS, self._begin_late)
            self._arriving = request
        else:
            self._begin(request)

    def _stop_arriving(self) -> None:
        if self._arriving is not None and self._arriving.timer is not None:
            self._arriving.timer.cancel()
        self._arriving = None

    def _begin_late(self) -> None:
        """A body that takes its time needs a task."""
        if (late := self._arriving) is not None:
            self._stop_arriving()
            super()._start_asgi_task(late.cycle, late.app)

    def _begin(self, request: _Request) -> None:
        """Answer a request directly, if its shortcut takes it."""
        cycle, shortcut = request.cycle, request.way.shortcut
        body = bytes(cycle.body)
        if not shortcut.takes(cycle.scope, body):  # type: ignore[arg-type]
            super()._start_asgi_task(cycle, request.app)
            return
        cycle.body = bytearray()
        self._exchange = Exchange(request.way, cycle.scope, partial(self._answer, cycle))  # type: ignore[arg-type]
        self._exchange.begin(body)

    def _answer(self, cycle: RequestResponseCycle, response: Response) -> None:
        """Send the answer to what was begun, and go on as uvicorn does after one."""
        self._exchange = None
        headers = [*cycle.default_headers, *response.raw_headers]
        if _CLOSE in headers:
            cycle.keep_alive = False
        elif not cycle.keep_alive:
            headers.append(_CLOSE)
        content = as_bytes(response.status_code, headers, bytes(response.body))
        cycle.response_started = cycle.response_complete = True
        cycle.on_response = _nothing  # it leads back here, and the collector is slow to free what does
        self.transport.write(content)
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        self._writer.flush()  # before anything else is written
        self._unanswered -= 1
        super().on_response_complete()
        if self._last_words is not None and not self._lingering and not self._answering():
            self._end()
        if self._lingering:
            self._unset_keepalive_if_required()
        if self.transport.get_write_buffer_size():
            self._watch_answer()

    def handle_websocket_upgrade(self) -> None:
        if self._answering():  # the connection is not the WebSocket's yet
            self.send_400_response("a WebSocket's handshake came before the answer to an earlier request")
        if self._last_words is None:
            self._upgraded = True
            super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self._refuse(Refusal.INVALID_HTTP, HTTPStatus.BAD_REQUEST, msg, "a request in HTTP/1.1")

    def shutdown(self) -> None:
        """The server stops: end the connection, after the answer to what has been asked."""
        self._stopping = True
        super().shutdown()

    def pause_writing(self) -> None:
        """The client takes less than it is sent."""
        super().pause_writing()
        self._watch_answer()

    def resume_writing(self) -> None:
        """It has taken most of it."""
        self._unsent = _MUCH
        super().resume_writing()

    def _answering(self) -> bool:
        return self._unanswered > 0

    def _await_client(self) -> None:
        self._head_timer = self.loop.call_later(self._head_seconds, self._late)

    def _stop_awaiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _late(self) -> None:
        self._head_timer = None
        if self._in_head and self._head_size:
            self._refuse(
                Refusal.HEAD_TIMEOUT,
                HTTPStatus.REQUEST_TIMEOUT,
                f"the head had not arrived after {self._head_seconds:g} seconds",
            )
        else:  # nothing was asked, or it has been answered
            self.transport.close()

    def _watch_answer(self) -> None:
        if self._stall_timer is None:
            self._unsent = self.transport.get_write_buffer_size()
            self._stall_timer = self.loop.call_later(self._answer_seconds, self._look_after_answer)

    def _look_after_answer(self) -> None:
        self._stall_timer = None
        unsent = self.transport.get_write_buffer_size()
        if unsent >= self._unsent:
            self._refusals[Refusal.ANSWER_STALLED] += 1
            log.info("answer stalled", unsent=unsent)
            self.transport.abort()
        elif unsent:
            self._watch_answer()

    def _refuse_connection(self) -> None:
        self._refuse(
            Refusal.CONNECTIONS,
            HTTPStatus.TOO_MANY_REQUESTS,
            f"{self._most_connections} connections are open, and no more may be",
            "fewer connections, each used for many requests",
            {"Retry-After": "1"},
        )

    def _refuse(
        self,
        reason: Refusal,
        status: HTTPStatus,
        detail: str,
        expected: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Answer what has not become a request, and end the connection."""
        if self.transport.is_closing() or self._last_words is not None:
            return
        self._stop_awaiting()
        self._stop_arriving()
        self._refusals[reason] += 1
        path = self.url.decode("latin-1")
        answer = last_answer(reason, StatusProblem(status, detail, expected), path, headers)
        if self._in_head:
            self._last_words = answer
        elif self.pipeline:  # the newest request is what is refused, and has not begun
            self.pipeline.popleft()
            self._unanswered -= 1
            self._last_words = answer
        else:  # it is the only one; once its answer has begun, nothing more can be said
            said = not self._answering() or self.cycle.response_started
            self._unanswered = 0
            self._last_words = b"" if said else answer
        if not self._answering():  # else it would be taken for the answer to an earlier request
            self._end()

    def _end(self) -> None:
        """Say the last words."""
        if self.transport.is_closing():
            return
        self._writer.flush()
        if self._last_words:
            self.transport.write(self._last_words)
        if (cycle := self.cycle) is not None and not cycle.response_complete:
            cycle.response_complete = True  # it may say nothing any more
            cycle.waiting_for_100_continue = False
            _disconnect(cycle)
        self._linger()

    def _close(self) -> None:
        """The answer that was given is the last, or there was to be more of it and will not be."""
        if self.cycle.response_complete and not self._in_head:
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        """Say that nothing more comes, and give the client time to read it: closed while it sends, the
        connection would be reset, and what was written last be lost.
        """
        self._stop_awaiting()
        if self._spare or self._stopping:  # there are too many connections, or no time
            self.transport.close()
            return
        self._lingering = True
        self._last_words = b""
        self.transport.write_eof()
        self.flow.resume_reading()
        self._head_timer = self.loop.call_later(self._head_seconds, self.transport.close)


def _disconnect(cycle: RequestResponseCycle) -> None:
    """Tell who answers a request that nobody waits."""
    cycle.disconnected = True
    cycle.message_event.set()


def _nothing() -> None:
    pass


@dataclass(slots=True)
class _Request:
    """One that may be answered directly.

    Attributes:
        cycle: uvicorn's account of it.
        app: answers it with a task.
        way: answers it without.
        timer: after which its body has taken too long for that.
    """

    cycle: RequestResponseCycle
    app: Any
    way: Way
    timer: asyncio.TimerHandle | None = None
