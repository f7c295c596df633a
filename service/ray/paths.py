"""Which model's deployment answers a request."""

from __future__ import annotations

from collections.abc import Collection

from service.digits.routes import MODEL as DIGITS
from service.frames.routes import MODEL as FRAMES

READY = "/v2/health/ready"

_STATE = "/v1/streams/"
_MODELS = "/v2/models/"
# What each server tells of itself, or does to itself alone.
_OF_A_REPLICA = ("/metrics", "/v2/repository/", "/v2/models/stats")


def of_a_replica(path: str) -> bool:
    """Whether a request is about a single server, of which nobody can say which one it would meet."""
    return path.startswith(_OF_A_REPLICA)


def model_of(path: str, models: Collection[str]) -> str:
    """The model that a path is about, or any for what all servers have. One that the store lacks, too: every
    server says so.

    Args:
        path: of a request.
        models: the names of those that there are, at least one.
    """
    if path.startswith(_MODELS):
        name = path.removeprefix(_MODELS).partition("/")[0]
    elif path == "/v1/digits":
        name = DIGITS
    else:
        name = FRAMES  # the status on the page, too: of streams
    return name if name in models else min(models)


def stream_of(path: str) -> str | None:
    """The stream whose state a path is about."""
    return path.removeprefix(_STATE).partition("/")[0] if path.startswith(_STATE) else None
