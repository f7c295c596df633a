"""The training benchmark runs and writes what it promises; how fast anything is, no test says."""

import csv
from pathlib import Path

import pytest
import torch

from benchmarks import machine, training
from benchmarks.cells import BASELINE, OURS, STEPWISE, TORCHS, Contestant, Size
from benchmarks.report import spread


def test_it_measures_everybody_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "keep_freed_memory", lambda: None)  # it would hold for the other tests too
    monkeypatch.setattr(training, "SIZES", (Size(10, 2, 2, 8),))
    monkeypatch.setattr(training, "TIMES", (10, 20))
    monkeypatch.setattr(training, "peak_memory", lambda names, *_: dict.fromkeys(names, 7e6))
    monkeypatch.setattr(training, "BATCHES", (1, 2))
    monkeypatch.setattr(machine, "SIZE", 64)
    assert training.main(["--rounds", "2", "--out", str(tmp_path)]) == 0
    report = (tmp_path / "training-speed.md").read_text()
    assert "## T = 10, batch 2, I = 2, H = 8" in report
    for name in (*OURS, *TORCHS):
        assert f"| {name} |" in report
    assert "| 7 | 7 |" in report
    assert (tmp_path / "training-speed.svg").read_text().startswith("<?xml")
    with (tmp_path / "training-speed.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in (*OURS, *TORCHS, *(name + STEPWISE for name in OURS)):
        measured = [row for row in rows if row["cell"] == name and row["inputs"] == "2"]
        assert [row["round"] for row in measured] == ["1", "2"]
        assert all(float(row["seconds"]) > 0 for row in measured)


def test_memory_is_measured_for_each_by_itself() -> None:
    names = ["MomentumLSTM", "DTRIV", "torch.nn.RNN", "DTRIV" + STEPWISE]
    bytes_of = training.peak_memory(names, Size(200, 64, 1, 128), torch.device("cpu"))
    hidden_states = 4 * 200 * 64 * 128
    assert all(value > hidden_states for value in bytes_of.values())
    assert bytes_of["MomentumLSTM"] > bytes_of["DTRIV"]


@pytest.mark.parametrize("name", [*OURS, *TORCHS, *(name + STEPWISE for name in OURS)])
def test_a_contestant_trains(name: str) -> None:
    contestant = Contestant(name, Size(7, 3, 2, 6), torch.device("cpu"))
    before = [p.detach().clone() for p in contestant.network.parameters()]
    contestant.step()
    changed = [not torch.equal(a, b) for a, b in zip(before, contestant.network.parameters(), strict=True)]
    assert all(changed)


def test_both_ways_compute_the_same() -> None:
    for name in OURS:
        fast, slow = (Contestant(n, Size(7, 3, 2, 6), torch.device("cpu")) for n in (name, name + STEPWISE))
        torch.testing.assert_close(fast._last(), slow._last(), rtol=1e-4, atol=1e-4)


def test_ratios_are_within_a_round() -> None:
    assert spread([2.0, 30.0, 400.0], [1.0, 10.0, 100.0]) == (2.5, 3.0, 3.5)
    assert spread([2.0], [1.0]) == (2.0, 2.0, 2.0)
    assert BASELINE in TORCHS


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--rounds", "many"]])
def test_wrong_arguments_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        training.main(arguments)
    assert raised.value.code == 2
