"""What came of load that does not wait."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import orjson

OK, REJECTED, IMPROPER = "200", "429", "429 without Retry-After"
BROKEN, SILENT, UNSENT = "the connection broke", "no answer", "no connection to be had"


@dataclass
class Outcome:
    """What came of the requests.

    Attributes:
        seconds: in which they were due.
        due: how many.
        answers: how many were answered with which status, or why not.
        times: seconds from when those answered with 200 were due until they were.
        rejection_times: the same of those answered with 429.
        retry_after: how often which Retry-After was said.
        good: answers 200 to requests of each second.
        rejected: answers 429 to requests of each second.
        cores: processor seconds a second that sending them took.
    """

    seconds: float
    due: int
    answers: Counter[str] = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)
    rejection_times: list[float] = field(default_factory=list)
    retry_after: Counter[str] = field(default_factory=Counter)
    good: Counter[int] = field(default_factory=Counter)
    rejected: Counter[int] = field(default_factory=Counter)
    cores: float = 0.0

    def answered(self, status: str, retry_after: bytes | None, due: float, now: float) -> None:
        """A request that was due then was answered now, both in seconds from the start."""
        if status == OK:
            self.times.append(now - due)
            self.good[int(due)] += 1
        elif status == REJECTED:
            self.rejection_times.append(now - due)
            self.rejected[int(due)] += 1
            if retry_after is None or not retry_after.isdigit():
                status = IMPROPER
            else:
                self.retry_after[retry_after.decode()] += 1
        self.answers[status] += 1

    def goodput(self, deadline: float) -> float:
        """Requests a second that were answered within so many seconds."""
        return sum(took <= deadline for took in self.times) / self.seconds

    def milliseconds(self, share: float) -> float:
        """The time within which so many percent of those answered with 200 were; infinite if none was."""
        return 1000.0 * float(np.percentile(self.times, share)) if self.times else float("inf")

    def rejection_milliseconds(self, share: float) -> float:
        """The same of those answered with 429; 0 if none was."""
        return 1000.0 * float(np.percentile(self.rejection_times, share)) if self.rejection_times else 0.0

    @property
    def improper(self) -> int:
        """Requests that were neither answered with 200 nor with a 429 that says when to try again."""
        return self.due - self.answers[OK] - self.answers[REJECTED]

    def dump(self) -> str:
        """As JSON."""
        return orjson.dumps(vars(self), option=orjson.OPT_NON_STR_KEYS).decode()

    @classmethod
    def load(cls, text: str) -> Outcome:
        """What `dump` made."""
        fields = orjson.loads(text)
        for name in ("answers", "retry_after"):
            fields[name] = Counter(fields[name])
        for name in ("good", "rejected"):
            fields[name] = Counter({int(second): count for second, count in fields[name].items()})
        return cls(**fields)
