"""How many rows run together fastest, on a clock that the fake graph moves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from exports.card import Card
from service.engine import tuning
from tests.service.conftest import small_card

CARD = Card.model_validate(small_card(b"graph", "digits", "1"))


class Machine:
    """Takes as long for a batch as `seconds` says of its rows and size; the first runs take longer."""

    def __init__(self, seconds: Callable[[int, int], float], hiccups: int = 0) -> None:
        self.now = 0.0
        self.seconds = seconds
        self.hiccups = hiccups
        self.runs: list[tuple[int, int]] = []

    def perf_counter(self) -> float:
        return self.now

    def run(self, inputs: Mapping[str, np.ndarray]) -> None:
        rows, size = inputs["pixels"].shape
        assert inputs["lengths"].tolist() == [size] * rows
        self.now += self.seconds(rows, size) + 0.004 * (len(self.runs) < self.hiccups)
        self.runs.append((rows, size))


def measure(machine: Machine, monkeypatch: pytest.MonkeyPatch, card: Any = CARD) -> Any:
    monkeypatch.setattr(tuning, "time", machine)
    return tuning.measure(machine.run, card)


def caches(rows: int, _: int) -> float:
    """A row takes 2 ms alone, 1 ms in fours, and more again where the caches are full."""
    return rows * (0.001 + 0.001 / rows**2 + 0.0002 * max(0, rows - 4) / 4)


@pytest.mark.parametrize("hiccups", [0, 3, 10])
def test_the_fastest_batch_is_found(monkeypatch: pytest.MonkeyPatch, hiccups: int) -> None:
    machine = Machine(caches, hiccups)
    pace = measure(machine, monkeypatch)[-1]
    assert (pace.size, pace.rows) == (machine.runs[-1][1], 4)
    assert pace.seconds == pytest.approx(caches(4, 0) / 4)


def test_of_batches_as_fast_the_larger_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(lambda rows, _: 0.0001 * (rows + 0.5 * (rows == 1)))
    assert {pace.rows for pace in measure(machine, monkeypatch)} == {64}


def test_what_takes_long_is_not_run_often_nor_in_large_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(lambda rows, _: 1.0 * rows)
    paces = measure(machine, monkeypatch)
    assert [rows for rows, _ in machine.runs] == [1] * len(paces)
    assert {pace.rows for pace in paces} == {1}


@pytest.mark.parametrize("row", [1e-5, 1e-4, 1e-3, 1e-2])
def test_a_size_is_measured_in_less_than_two_tenths_of_a_second(
    monkeypatch: pytest.MonkeyPatch, row: float
) -> None:
    machine = Machine(lambda rows, _: row * rows)
    paces = measure(machine, monkeypatch)
    assert machine.now < 0.2 * len(paces)
