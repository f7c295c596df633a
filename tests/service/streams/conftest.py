"""Servers of live streams, and what hears them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.engine.store import Model, load_model
from tests.service.stream_client import StreamClient
from tests.service.streams.heard import CHUNK, SECONDS


@pytest.fixture(scope="session")
def model(small_store: Path) -> Model:
    """The small frames model."""
    return load_model(small_store / "frames" / "1")


@pytest.fixture(scope="session")
def live(serve: Any, small_store: Path) -> Iterator[Any]:
    """A server with small limits."""
    limits = ("--max-chunk-bytes", CHUNK, "--max-stream-seconds", SECONDS, "--max-streams", 200)
    with serve("--store", small_store, "--lanes", 2, *limits) as server:
        yield server


@pytest.fixture
def connect(live: Any) -> Callable[[], StreamClient]:
    return lambda: StreamClient(live.address)


@pytest.fixture(scope="session")
def hasty(serve: Any, small_store: Path) -> Iterator[Any]:
    """A server that waits for nothing long."""
    waits = {"start": 0.2, "idle": 0.4, "resume": 0.3, "stall": 0.3}
    flags = [f"--stream-{name}-seconds={seconds}" for name, seconds in waits.items()]
    with serve("--store", small_store, *flags) as server:
        yield server
