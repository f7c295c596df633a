"""Training as its user runs it: real processes, killed for real."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "training" / "recipes"
SEVERAL_THREADS = os.environ | {"OMP_NUM_THREADS": "2"}


def small_recipe(folder: Path, epochs: int) -> Path:
    """The quick start's recipe, shrunk, with everything on that draws random numbers."""
    recipe: dict[str, Any] = yaml.safe_load((RECIPES / "optdigits.yaml").read_text())
    recipe["trainer"]["max_epochs"] = epochs
    recipe["trainer"]["default_root_dir"] = str(folder)
    recipe["model"]["classifier"] |= {"hidden_size": 8, "num_layers": 2, "dropout": 0.2}
    recipe["model"]["phases"] = [
        {"epochs": 1, "size": 4},
        {"epochs": epochs - 1, "schedule": "one-cycle", "stretch_memory": 0.5},
    ]
    recipe["model"]["averaging"] = 0.9
    recipe["model"]["augmentation"] = {}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "training", *map(str, arguments)]


def run(*arguments: str | Path, status: int = 0) -> str:
    done = subprocess.run(
        command(*arguments), cwd=ROOT, env=SEVERAL_THREADS, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stderr


def test_killed_and_resumed_is_never_killed(tmp_path: Path) -> None:
    never, killed = tmp_path / "never", tmp_path / "killed"
    never.mkdir()
    killed.mkdir()
    epochs = 5
    output = run("fit", "--config", small_recipe(never, epochs))
    assert "train/accuracy" in output
    recipe = small_recipe(killed, epochs)
    process = subprocess.Popen(
        command("fit", "--config", recipe),
        cwd=ROOT,
        env=SEVERAL_THREADS,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (killed / "last.ckpt").exists():
        assert process.poll() is None, "the run ended without a checkpoint"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    cut = torch.load(killed / "last.ckpt", weights_only=True)
    assert cut["epoch"] < epochs - 1
    run("fit", "--config", recipe, "--ckpt_path", killed / "last.ckpt")
    wanted = torch.load(never / "last.ckpt", weights_only=True)
    actual = torch.load(killed / "last.ckpt", weights_only=True)
    assert actual["epoch"] == wanted["epoch"] == epochs - 1
    assert any(
        not torch.equal(cut["state_dict"][name], value) for name, value in wanted["state_dict"].items()
    )
    for name, value in wanted["state_dict"].items():
        assert torch.equal(actual["state_dict"][name], value), name
    assert list((never / "logs").rglob("events.out.tfevents.*")), "no TensorBoard log"
    best = torch.load(never / "best.ckpt", weights_only=True)
    assert best["classifier"]["config"]["hidden_size"] == 8
    assert best["provenance"]["dataset"] == "optdigits"
    assert best["provenance"]["recipe"]["model"]["init_args"]["averaging"] == 0.9
    tested = run("test", "--config", recipe, "--ckpt_path", never / "best.ckpt")
    assert "test/accuracy" in tested


def test_missing_data_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"not a gzip file")
    output = run(
        "fit",
        "--config",
        RECIPES / "digits.yaml",
        "--data",
        tmp_path,
        "--trainer.devices",
        "1",
        status=1,
    )
    assert "train-images-idx3-ubyte.gz" in output
    assert "Traceback" not in output


def test_training_past_the_last_phase_is_refused(train: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"trainer\.max_epochs is 3, but the phases have 2 epochs"):
        train("fit", "--config", small_recipe(tmp_path, 2), "--trainer.max_epochs=3")
