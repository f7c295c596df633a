"""The requests that wait, and which of them run next."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator

from service.engine.batching import LOWEST_PRIORITY, Piece, Request

_Group = OrderedDict[int, Request]


class Queue:
    """Requests by priority, and within one by arrival.

    Attributes:
        rows: how many rows wait.
        nbytes: the size of their inputs.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.nbytes = 0
        self._seconds = [0.0] * LOWEST_PRIORITY
        self._levels: list[dict[Hashable, _Group]] = [{} for _ in range(LOWEST_PRIORITY)]
        self._pushed = 0

    def __len__(self) -> int:
        """How many requests wait."""
        return sum(len(group) for level in self._levels for group in level.values())

    def __iter__(self) -> Iterator[Request]:
        """Those that wait, the more urgent first, but not by arrival."""
        for level in self._levels:
            for group in level.values():
                yield from group.values()

    @property
    def oldest(self) -> float | None:
        """When the one that waits longest was admitted."""
        return min((request.admitted for request in self), default=None)

    def seconds(self, priority: int = LOWEST_PRIORITY) -> float:
        """How long one lane would need for what waits, as far as can be told; up to a priority, for what goes
        before a new request of it.
        """
        return sum(self._seconds[:priority])

    def push(self, request: Request) -> None:
        """Add a request, as the youngest."""
        self._pushed += 1
        request.number = self._pushed
        self._levels[request.priority - 1].setdefault(request.key, OrderedDict())[request.number] = request
        self._count(request, request.rows)
        self.nbytes += request.nbytes

    def remove(self, request: Request) -> bool:
        """Take a request out again; False if it does not wait."""
        level = self._levels[request.priority - 1]
        group = level.get(request.key)
        if group is None or group.pop(request.number, None) is None:
            return False
        if not group:
            del level[request.key]
        self._count(request, request.taken - request.rows)
        self.nbytes -= request.nbytes
        return True

    def take(self) -> list[Piece]:
        """What is to run next: the oldest of the most urgent requests, and the next that may run with it, as
        many rows as run best together. A request of more is taken piece by piece. Nothing if none waits.
        """
        head = self.head
        if head is None:
            return []
        room = head.layout.rows(head.size)
        pieces: list[Piece] = []
        for level in self._levels[head.priority - 1 :]:
            for request in level.get(head.key, {}).values():
                rows = request.rows - request.taken
                if pieces and rows > room:
                    break
                rows = min(rows, room)
                pieces.append(Piece(request, request.taken, request.taken + rows))
                room -= rows
            if not room:
                break
        for piece in pieces:
            request = piece.request
            self._count(request, -piece.rows)
            request.taken = piece.stop
            if request.taken == request.rows:
                self.remove(request)
        return pieces

    def clear(self) -> list[Request]:
        """Take out all that waits."""
        waiting = list(self)
        for request in waiting:
            self.remove(request)
        return waiting

    @property
    def head(self) -> Request | None:
        """The oldest of the most urgent requests, None if none waits."""
        for level in self._levels:
            if level:
                return min((next(iter(group.values())) for group in level.values()), key=_number)
        return None

    def _count(self, request: Request, rows: int) -> None:
        self.rows += rows
        level = request.priority - 1
        seconds = self._seconds[level] + request.seconds * rows / request.rows
        self._seconds[level] = max(0.0, seconds) if self._levels[level] else 0.0  # whatever was rounded


def _number(request: Request) -> int:
    return request.number
