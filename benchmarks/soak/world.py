"""What the clients of the soak know and share."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from benchmarks.soak.oracle import Oracle
from benchmarks.soak.tally import Tally


@dataclass
class World:
    """
    Attributes:
        address: of the server.
        oracle: what is asked and what is right.
        tally: what came of it.
        ready: the newest version of each model that was seen to be ready.
        unhurried: seconds that slow clients take.
        random: chooses.
    """

    address: tuple[str, int]
    oracle: Oracle
    tally: Tally = field(default_factory=Tally)
    ready: dict[str, int] = field(default_factory=dict)
    unhurried: float = 3.0
    random: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311

    def digits(self, count: int) -> list[int]:
        """Numbers of samples."""
        return [self.random.randrange(len(self.oracle.samples)) for _ in range(count)]

    def recording(self) -> int:
        """The number of a recording."""
        return self.random.randrange(len(self.oracle.recordings))


Act = Callable[[World], Awaitable[str]]  # returns its outcome, or raises ViolationError
