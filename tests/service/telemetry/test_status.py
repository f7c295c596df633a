"""GET /v1/status."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime

from service.telemetry.status import Status

Serve = Callable[..., Any]


def status(server: Any) -> Status:
    response = server.client.get("/v1/status")
    assert response.status_code == 200
    return Status.model_validate_json(response.content)


def test_it_tells_what_is_served_and_on_what(server: Any) -> None:
    told = status(server)
    assert told.ready
    assert not told.problems
    assert told.device.model_dump() == {
        "device": "cpu",
        "provider": "CPUExecutionProvider",
        "onnxruntime": onnxruntime.__version__,
    }
    assert told.lanes.count >= 1
    assert told.lanes.ailing == 0
    digits, frames = told.models
    assert (digits.name, digits.task, frames.name) == ("digits", "digits", "frames")
    (accuracy,) = digits.metrics
    assert (accuracy.name, accuracy.dataset) == ("accuracy", "mnist")
    assert 0.98 < accuracy.value < 1


def test_it_tells_what_happened_in_the_last_seconds(serve: Serve, small_store: Path) -> None:
    with serve("--store", small_store) as server:
        before = status(server)
        assert before.recent.requests_per_second == 0
        assert before.recent.p50_seconds is None
        images = {"images": [[0, 1] * 392] * 3}
        assert server.client.post("/v1/digits", json=images).status_code == 200
        deadline = time.monotonic() + 30
        while (after := status(server)).recent.p50_seconds is None:  # until that second is over
            assert time.monotonic() < deadline
            time.sleep(0.05)
    digits, frames = after.models
    assert (digits.answered, digits.failed, digits.in_flight, frames.answered) == (1, 0, 0, 0)
    for recent in (after.recent, digits.recent):
        assert recent.requests_per_second == 1 / recent.seconds
        assert recent.rows_per_second == 3 / recent.seconds
        assert recent.batch_rows is not None
        assert 1 <= recent.batch_rows <= 3
        assert recent.p50_seconds is not None
        assert recent.p99_seconds is not None
        assert 0 < recent.p50_seconds <= recent.p99_seconds
    assert frames.recent.requests_per_second == 0
    assert after.uptime_seconds > before.uptime_seconds
    assert (after.queue.requests, after.queue.rows, after.queue.bytes) == (0, 0, 0)
