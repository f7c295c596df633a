"""What HTTP requests there were: counted by route, method and status."""

from __future__ import annotations

from collections import Counter, defaultdict

from starlette.types import Scope

from service.engine.statistics import Histogram

# Paths that nothing is at, of which a client may ask for any number; and what was refused before its route
# was looked for.
NO_ROUTE = "none"


class RequestCounts:
    """Counts answered requests.

    Attributes:
        answered: how many, by route ("/v2/models/{model}"), method and status; 499 are those whose client was
            gone, 0 those that were cut off without an answer.
        durations: from the request's head to the end of the answer, by route.
    """

    def __init__(self) -> None:
        self.answered: Counter[tuple[str, str, int]] = Counter()
        self.durations: defaultdict[str, Histogram] = defaultdict(Histogram)

    def add(self, scope: Scope, status: int | None, seconds: float) -> None:
        """Count a request, when it has ended."""
        route = getattr(scope.get("route"), "path", NO_ROUTE)
        method = "other" if route == NO_ROUTE else scope.get("method", "WebSocket")
        self.answered[route, method, status or 0] += 1
        self.durations[route].add(seconds)
