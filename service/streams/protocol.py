"""The messages of WS /v1/frames/stream: what a client may say, and how it is told that something is wrong."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from service.frames.routes import MODEL
from service.streams.pcm import Encoding
from service.streams.registry import Reason


class Start(BaseModel):
    """The first message on a connection that begins a stream."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["start"]
    sample_rate: int
    encoding: Encoding
    model: str = MODEL
    version: str | None = None
    probabilities: bool = False


class Resume(BaseModel):
    """The first message on a connection that goes on with a stream."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["resume"]
    token: str = Field(max_length=200)


class Finish(BaseModel):
    """The only text message after the first."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["finish"]


# Characters of a text message, ten times what the longest needs. A wrong one costs a copy of its parts: of
# 256 kB, it held up the event loop for 0.4 seconds.
MAX_TEXT = 4096

_OPENING: TypeAdapter[Start | Resume] = TypeAdapter(Annotated[Start | Resume, Field(discriminator="type")])
_FINISH = TypeAdapter(Finish)

EXPECTED_OPENING = (
    '{"type": "start", "sample_rate": Hz, "encoding": "pcm16" or "float32", "model"?: name, '
    '"version"?: "number", "probabilities"?: true} or {"type": "resume", "token": ...}'
)
_EXPECTED_LATER = 'audio in binary messages, and {"type": "finish"} after it'


class Failure(Exception):  # noqa: N818 - it ends a connection, not always the stream
    """Why the server closes a connection.

    Args:
        code: for programs.
        close: the WebSocket's close code.
        detail: what was wrong.
        expected: what would have been right.
        resumable: whether the stream goes on with the next connection.
        retry_seconds: when to try again.
    """

    def __init__(
        self,
        code: str,
        close: int,
        detail: str,
        expected: str | None = None,
        *,
        resumable: bool = False,
        retry_seconds: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.close = close
        self.detail = detail
        self.expected = expected
        self.resumable = resumable
        self.retry_seconds = retry_seconds

    def message(self, token: str | None) -> dict[str, Any]:
        """The last message on the connection.

        Args:
            token: of what the client has of its stream, None without one.
        """
        fields = {
            "type": "error",
            "code": self.code,
            "detail": self.detail,
            "expected": self.expected,
            "retry_seconds": self.retry_seconds,
            "resume": token if self.resumable else None,
        }
        return {name: value for name, value in fields.items() if value is not None}


class Disconnected(Failure):
    """The client has left; nobody is there to be told."""

    def __init__(self) -> None:
        super().__init__("dropped", 1006, "the client has left")


def ended(reason: Reason, idle_seconds: float) -> Failure:
    """What a client is told whose stream ended, or was taken over, without its doing.

    Args:
        reason: why.
        idle_seconds: after how many without audio a stream ends.
    """
    match reason:
        case Reason.IDLE:
            detail = f"there was no audio for {idle_seconds:g} seconds"
            return Failure("idle", 4408, detail, 'audio, or {"type": "finish"}')
        case Reason.TAKEN_OVER:
            return Failure("taken_over", 4409, "another connection has resumed this stream")
        case Reason.MOVED:
            return Failure("moved", 4307, "the stream was moved to another server", resumable=True)
        case Reason.SHUTDOWN:
            return Failure("shutting_down", 1001, "the server is shutting down", resumable=True)
        case _:
            return Failure("failed", 1011, "the server failed at this stream; its log has the details")


def parse_opening(text: str) -> Start | Resume:
    """A connection's first message.

    Raises:
        Failure
    """
    return _parse(_OPENING, text, EXPECTED_OPENING, resumable=False)


def parse_later(text: str) -> Finish:
    """A text message after the first.

    Raises:
        Failure
    """
    return _parse(_FINISH, text, _EXPECTED_LATER, resumable=True)


_Parsed = TypeVar("_Parsed")


def _parse(kind: TypeAdapter[_Parsed], text: str, expected: str, *, resumable: bool) -> _Parsed:
    if len(text) > MAX_TEXT:
        detail = f"the message has {len(text)} characters"
        raise Failure(
            "message_too_large", 1009, detail, f"at most {MAX_TEXT}: {expected}", resumable=resumable
        )
    try:
        return kind.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            raise Failure("not_json", 1007, first["msg"], expected, resumable=resumable) from error
        where = ".".join(str(part) for part in first["loc"])
        detail = f"{where}: {first['msg']}" if where else first["msg"]
        raise Failure("invalid_message", 1008, detail, expected, resumable=resumable) from error
