"""What runs logged, as a table and a plot."""

import csv
from pathlib import Path
from typing import Any

import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from training import curves

RECIPES = Path(__file__).parents[2] / "training" / "recipes"


def log(run: Path, version: int, start: float, **losses: dict[int, float]) -> None:
    """Write what TensorBoardLogger would have written in the run's start number `version`."""
    writer = EventFileWriter(str(run / "logs" / f"version_{version}"))
    for tag, curve in losses.items():
        for step, value in curve.items():
            scalar = Summary(value=[Summary.Value(tag=tag.replace("_", "/"), simple_value=value)])
            writer.add_event(Event(wall_time=start + step, step=step, summary=scalar))
    writer.close()


def table(path: Path) -> list[tuple[str, str, int, float]]:
    with path.open(newline="") as file:
        return [
            (row["run"], row["curve"], int(row["step"]), float(row["value"])) for row in csv.DictReader(file)
        ]


def test_a_resumed_run_is_one_curve(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "copying-lstm"
    log(run, 0, 0.0, train_loss={9: 2.0, 19: 1.0, 29: 0.5, 39: 0.4}, validation_loss={19: 1.5, 39: 1.0})
    log(run, 1, 1e6, train_loss={29: 0.75}, validation_loss={39: 0.25})
    log(run, 2, 2e6, validation_loss={0: 0.25})  # of `validate`
    assert curves.main([str(run), "--out", str(tmp_path / "results" / "copying")]) == 0
    # what the first start logged from step 29 on, the second has overtaken
    assert table(tmp_path / "results" / "copying.csv") == [
        ("copying-lstm", "train/loss", 9, 2.0),
        ("copying-lstm", "train/loss", 19, 1.0),
        ("copying-lstm", "train/loss", 29, 0.75),
        ("copying-lstm", "validation/loss", 19, 1.5),
        ("copying-lstm", "validation/loss", 39, 0.25),
    ]


def test_runs_are_drawn_over_the_baseline(train: Any, tmp_path: Path) -> None:
    small = ["--data.length=4", "--data.steps=10", "--data.batch_size=2", "--model.network.hidden_size=4"]
    for cell in ("lstm", "dtriv"):
        recipe = RECIPES / f"copying-{cell}.yaml"
        train("fit", "--config", recipe, *small, "--trainer.max_epochs=2")
    runs = [str(tmp_path / "runs" / f"copying-{cell}") for cell in ("lstm", "dtriv")]
    assert curves.main([*runs, "--out", str(tmp_path / "copying")]) == 0
    rows = table(tmp_path / "copying.csv")
    found = {(run, curve, step) for run, curve, step, _ in rows}
    assert found == {
        (run, curve, step)
        for run in ("copying-lstm", "copying-dtriv")
        for curve in ("baseline", "train/loss", "validation/loss")
        for step in (9, 19)
    }
    assert {value for _, curve, _, value in rows if curve == "baseline"} == {0.866434}  # 10 ln 8 / 24
    plot = (tmp_path / "copying.svg").read_text()
    assert "<svg" in plot
    first = (tmp_path / "copying.svg").read_bytes()
    assert curves.main([*runs, "--out", str(tmp_path / "copying")]) == 0
    assert (tmp_path / "copying.svg").read_bytes() == first


def test_the_plot_names_runs_and_baseline() -> None:
    runs = {
        "a": {"train/loss": {1: 2.0, 2: 1.0}, "validation/loss": {2: 1.5}, "baseline": {2: 0.5}},
        "b": {"validation/loss": {2: 1.25}, "baseline": {2: 0.5}},
    }
    (axes,) = curves.draw(runs).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b", "without memory"]
    assert axes.get_yscale() == "log"
    dashed = [line for line in axes.get_lines() if line.get_linestyle() == "--"]
    assert [line.get_ydata()[0] for line in dashed] == [0.5]


def test_a_folder_without_a_log_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert curves.main([str(tmp_path / "empty"), "--out", str(tmp_path / "plot")]) == 1
    error = capsys.readouterr().err
    assert f"error: {tmp_path / 'empty'}: found no TensorBoard log with train/loss;" in error
    assert not list(tmp_path.glob("plot*"))


def test_runs_of_one_name_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for parent in ("x", "y"):
        log(tmp_path / parent / "same", 0, 0.0, train_loss={1: 1.0})
    runs = [str(tmp_path / parent / "same") for parent in ("x", "y")]
    assert curves.main([*runs, "--out", str(tmp_path / "plot")]) == 1
    assert "two runs have folders of one name" in capsys.readouterr().err
