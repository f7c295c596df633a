"""The statistics extension: what each version of a model has done since the server was started."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from service.engine import Request
from service.engine.batching import Piece

_Key = tuple[str, str]


@dataclass(slots=True)
class Duration:
    """How often something happened, and how long it took altogether."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        """It happened once more."""
        self.count += 1
        self.ns += round(1e9 * seconds)


@dataclass(slots=True)
class _Counts:
    """One version's."""

    last_inference: int = 0  # milliseconds since the epoch
    inferences: int = 0  # rows
    executions: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    batches: defaultdict[int, Duration] = field(default_factory=lambda: defaultdict(Duration))


class Statistics:
    """Counts what it observes of the engine."""

    def __init__(self) -> None:
        self._counts: defaultdict[_Key, _Counts] = defaultdict(_Counts)

    def admitted(self, request: Request) -> None:
        """Nothing to count yet."""

    def rejected(self, request: Request, reason: str) -> None:  # noqa: ARG002 - it failed, whatever the reason
        """The request was refused."""
        self._of(request).fail.add(0.0)

    def ran(self, pieces: list[Piece], seconds: float, error: Exception | None) -> None:
        """A lane has run a batch, in so many seconds."""
        if error is not None:
            return
        counts = self._of(pieces[0].request)
        rows = sum(piece.rows for piece in pieces)
        counts.last_inference = time.time_ns() // 10**6
        counts.inferences += rows
        counts.executions += 1
        counts.batches[rows].add(seconds)
        for _ in pieces:
            counts.compute_infer.add(seconds)

    def ended(self, request: Request, error: Exception | None) -> None:
        """The request was answered, or ended in an error."""
        counts = self._of(request)
        ended = request.ended if request.ended is not None else request.admitted
        (counts.success if error is None else counts.fail).add(ended - request.admitted)
        if error is None and request.started is not None:
            counts.queue.add(request.started - request.admitted)

    def render(self, name: str, version: str) -> dict[str, Any]:
        """The protocol's object for one version of a model."""
        counts = self._counts.get((name, version)) or _Counts()
        none = Duration()
        return {
            "name": name,
            "version": version,
            "last_inference": counts.last_inference,
            "inference_count": counts.inferences,
            "execution_count": counts.executions,
            "inference_stats": {
                "success": counts.success,
                "fail": counts.fail,
                "queue": counts.queue,
                # Stacking and splitting tensors is part of the time that is not in queue or compute_infer.
                "compute_input": none,
                "compute_infer": counts.compute_infer,
                "compute_output": none,
                "cache_hit": none,
                "cache_miss": none,
            },
            "response_stats": {},
            "batch_stats": [
                {"batch_size": rows, "compute_input": none, "compute_infer": spent, "compute_output": none}
                for rows, spent in sorted(counts.batches.items())
            ],
            "memory_usage": [],
        }

    def _of(self, request: Request) -> _Counts:
        card = request.layout.model.card
        return self._counts[card.name, card.version]
