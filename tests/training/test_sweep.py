"""Sweeps as their user runs them: several processes, killed and started again."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.trial import Trial

from training import sweep

ROOT = Path(__file__).parents[2]
RECIPE: dict[str, Any] = {
    "seed_everything": 1,
    "trainer": {
        "max_epochs": 2,
        "limit_train_batches": 2,
        "limit_val_batches": 1,
        "accelerator": "cpu",
        "enable_model_summary": False,
    },
    "model": {
        "classifier": {"hidden_size": 4, "filter": "momentum", "filter_options": {"mu": 0, "epsilon": 1}}
    },
    "data": {"dataset": "optdigits", "batch_size": 8},
}
RANGES = ["--mu", "0.0", "0.9", "--epsilon", "0.1", "1.0"]
CRASHING = """
import os
from lightning.pytorch import Callback

class Crashing(Callback):
    def on_train_start(self, trainer, module):
        if "trial-0001" in trainer.default_root_dir:
            os.abort()
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    (tmp_path / "crashing.py").write_text(CRASHING)
    return path


def start(folder: Path, *command: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "training", *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{folder}", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def options_for(out: str, *more: str) -> list[str]:
    return ["--config", "recipe.yaml", *RANGES, "--trials", "2", "--out", out, *more]


def start_sweep(folder: Path, out: str, *more: str) -> subprocess.Popen[str]:
    return start(folder, "sweep", *options_for(out, *more))


@pytest.fixture
def in_folder(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps of this process start their trials like those of `start`."""
    monkeypatch.chdir(recipe.parent)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{recipe.parent}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def finish(process: subprocess.Popen[str], status: int = 0) -> str:
    try:
        output, _ = process.communicate(timeout=250)
    finally:
        process.kill()
    assert process.returncode == status, output
    return output


def table(out: Path) -> list[dict[str, str]]:
    with (out / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def found(out: Path) -> list[tuple[str, ...]]:
    names = ("mu", "epsilon", "state", "validation/accuracy", "epochs")
    return [tuple(row[name] for name in names) for row in table(out)]


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("in_folder")
def test_killed_or_shared_a_sweep_finds_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    killed = start_sweep(tmp_path, "killed")
    while not (tmp_path / "killed" / "trial-0001" / "alive").exists():
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()  # the trial's process, which had our pipe too, has noticed and ended

    assert sweep.main(options_for("killed")) == 0
    shared = [start_sweep(tmp_path, "shared") for _ in range(2)]
    lines = [line for process in shared for line in finish(process).splitlines() if line.startswith("trial ")]
    assert len(lines) == 2, "each trial is trained once"
    assert [row["trial"] for row in table(tmp_path / "killed")] == ["0", "2"]
    assert [row["trial"] for row in table(tmp_path / "shared")] == ["0", "1"]
    assert found(tmp_path / "killed") == found(tmp_path / "shared")
    assert {row[2] for row in found(tmp_path / "shared")} == {"complete"}

    best = yaml.safe_load((tmp_path / "shared" / "best.yaml").read_text())
    options = best["model"]["classifier"]["filter_options"]
    rows = table(tmp_path / "shared")
    most = max(float(row["validation/accuracy"]) for row in rows)
    chosen = [row for row in rows if row["mu"] == f"{options['mu']:.6g}"]
    assert [float(row["validation/accuracy"]) for row in chosen] == [most]
    assert {**best, "model": None} == {**RECIPE, "model": None}

    assert sweep.main(options_for("shared", "--seed", "1")) == 1
    assert "has a sweep with other settings" in capsys.readouterr().err


@pytest.mark.usefixtures("in_folder")
def test_a_crash_is_a_failed_trial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--trainer.callbacks+=crashing.Crashing", "--trainer.max_epochs=1"]
    assert sweep.main(options_for("out", *more)) == 0
    assert f"failed with exit status {-signal.SIGABRT}" in capsys.readouterr().out
    assert [row["state"] for row in table(tmp_path / "out")] == ["complete", "fail"]


def test_a_trial_stops_when_it_is_told_to_and_ends_without_its_sweep(recipe: Path, tmp_path: Path) -> None:
    def trial(answers: Sequence[str]) -> tuple[int, int]:
        ours, theirs = socket.socketpair()
        channel = ["--trainer.callbacks+=training.trial.Reports"]
        channel += [f"--trainer.callbacks.channel={theirs.fileno()}", "--trainer.max_epochs=100"]
        process = start(tmp_path, "fit", "--config", str(recipe), *channel, pass_fds=[theirs.fileno()])
        theirs.close()
        with ours.makefile("rw") as lines:
            for epoch, answer in enumerate(answers):
                report = json.loads(lines.readline())
                assert report["epoch"] == epoch
                assert 0.0 <= report["value"] <= 1.0
                lines.write(f"{answer}\n")
                lines.flush()
            left = sum(1 for _ in lines) if answers[-1] == "stop" else 0
        ours.close()
        process.communicate(timeout=100)
        return process.returncode, left

    assert trial(["go on", "stop"]) == (0, 0)
    assert trial(["go on"])[0] == 1


def test_the_trial_of_a_silent_machine_is_made_up_for(tmp_path: Path) -> None:
    def claim() -> Trial:
        trial = sweep.Sweep(RECIPE, {"mu": (0.0, 0.9)}, [], tmp_path, 0, 10, patience=0.5)._claim(1)
        assert trial is not None
        return trial

    lost = claim()
    lost.set_user_attr("process", ["another machine", 1])
    again = claim()
    assert (again.number, again.params) == (lost.number + 1, lost.params)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to sweep"),
        (["--mu", "0", "1"], r"mu must be in [0, 1)"),
        (["--epsilon", "0", "1"], "epsilon must be positive"),
        (["--mu", "0.5", "0.4"], "0.5 is greater than 0.4"),
        (["--config", "absent.yaml", "--mu", "0", "0.5"], "absent.yaml: cannot be read"),
        (["--config", "plain.yaml", "--mu", "0", "0.5"], "plain.yaml: its network has no filter_options"),
        (["--config", "nesterov.yaml", "--mu", "0", "0.5"], "nesterov.yaml: its filter_options name no mu"),
    ],
)
def test_what_cannot_be_swept_is_refused(
    arguments: list[str],
    message: str,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plain.yaml").write_text("model: {classifier: {hidden_size: 4}}")
    Path("nesterov.yaml").write_text("model: {classifier: {filter_options: {epsilon: 1.0}}}")
    assert sweep.main(["--config", str(recipe), *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize("option", ["--ray-cpus", "--ray-gpus"])
def test_what_is_for_ray_needs_ray(option: str, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        sweep.main(["--config", str(recipe), "--mu", "0", "0.5", option, "1"])
    assert ended.value.code == 2
    assert "--ray-cpus and --ray-gpus are for --ray" in capsys.readouterr().err
