"""What happens in the engine, for those who count or trace it. All of it in the event loop's thread."""

from __future__ import annotations

from typing import Literal, Protocol

from service.engine.batching import Piece, Request

# Too much waits; what waits takes longer than the request can wait; it came after its deadline.
Refusal = Literal["queue_full", "overload", "deadline"]


class Observer(Protocol):
    """Is told; must not raise, and must be quick."""

    def admitted(self, request: Request) -> None:
        """The request waits."""

    def rejected(self, request: Request, reason: Refusal) -> None:
        """The request was refused."""

    def ran(self, pieces: list[Piece], seconds: float, error: Exception | None) -> None:
        """A lane has run a batch, in so many seconds."""

    def ended(self, request: Request, error: Exception | None) -> None:
        """The request was answered (None), or ended in this error; `CancelledRequestError` says that nobody
        waits for it any more.
        """
