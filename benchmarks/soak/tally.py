"""What came of the clients' acts."""

from __future__ import annotations

from collections import Counter

MOST_TOLD = 50


class ViolationError(Exception):
    """The server did what it must not; the message says what was asked, expected and found."""


class Tally:
    """
    Attributes:
        outcomes: how often each act came to which outcome.
        wrong: how often each act found a violation.
        told: the first of these in words.
        slowest: seconds that each act took at most.
    """

    def __init__(self) -> None:
        self.outcomes: dict[str, Counter[str]] = {}
        self.wrong: Counter[str] = Counter()
        self.told: list[str] = []
        self.slowest: dict[str, float] = {}

    def add(self, act: str, outcome: str, seconds: float) -> None:
        """An act has come to this outcome."""
        self.outcomes.setdefault(act, Counter())[outcome] += 1
        self.slowest[act] = max(seconds, self.slowest.get(act, 0.0))

    def violated(self, act: str, outcome: str, text: str, seconds: float) -> None:
        """An act has found what must not be."""
        self.add(act, outcome, seconds)
        self.wrong[act] += 1
        if len(self.told) < MOST_TOLD:
            self.told.append(f"{act}: {text}")

    @property
    def acts(self) -> int:
        """How many there were."""
        return sum(outcomes.total() for outcomes in self.outcomes.values())

    def count(self, outcome: str) -> int:
        """How many acts came to this outcome."""
        return sum(outcomes[outcome] for outcomes in self.outcomes.values())
