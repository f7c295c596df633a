"""The streaming benchmark plays into a real server and counts right; how fast anything is, no test says."""

import csv
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import load, streaming
from benchmarks.load import Load
from exports.store import DEFAULT_STORE


def test_it_plays_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "WARM_UP", 0.3)
    monkeypatch.setattr(streaming, "BATCHES", (1, 2))
    assert streaming.main(["--streams", "1", "3", "--seconds", "0.7", "--out", str(tmp_path)]) == 0
    with (tmp_path / "streaming.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["streams"], row["sent"], row["answered"]) for row in rows] == [
        ("1", "7", "7"),
        ("3", "21", "21"),
    ]
    assert all(0 < float(row["p50_ms"]) <= float(row["worst_ms"]) for row in rows)
    report = (tmp_path / "streaming.md").read_text()
    assert "| 21 of 21 |" in report
    assert "| 2 | " in report


def test_streams_are_carried_if_every_message_is_answered_in_time() -> None:
    def row(times: list[float], sent: int) -> streaming.Row:
        return streaming.Row(Load(1, sent, np.array(times), np.zeros(sent), [0.1, 0.1]), 0.1, 0.1)

    assert row([0.01] * 100, 100).carried
    assert not row([0.01] * 99, 100).carried
    assert not row([0.01] * 90 + [0.2] * 10, 100).carried
    assert not row([], 0).carried


def test_times_count_from_when_a_message_was_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that is late makes the service look worse, never better."""
    send = load._Stream.send

    def slow(stream: load._Stream, data: bytes) -> None:
        time.sleep(0.15)
        send(stream, data)

    with streaming.serve(DEFAULT_STORE, 1) as (address, _):
        monkeypatch.setattr(load._Stream, "send", slow)
        result = load.play(address, 1, 8000, 0.0, 0.5, lambda: [0.0])
    assert result.sent == result.answered == 5
    assert result.milliseconds(100) > 5 * 150 - 400  # the last was due at 400 ms and sent at 750
