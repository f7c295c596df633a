"""What the command line adds to a recipe, and what can be changed."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from training.cli import data_directory_options, main

ROOT = Path(__file__).parents[2]
RECIPE = {
    "trainer": {"max_epochs": 2, "limit_train_batches": 3, "limit_val_batches": 1},
    "model": {"classifier": {"hidden_size": 4}, "averaging": 0.9},
    "data": {"dataset": "optdigits", "batch_size": 4},
}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return path


def written(folder: Path) -> set[str]:
    return {path.relative_to(folder).parts[0] for path in folder.rglob("*") if path.is_file()}


def test_a_run_lives_in_a_folder_of_the_recipes_name(recipe: Path, train: Any, tmp_path: Path) -> None:
    train("fit", "--config", recipe)
    assert written(tmp_path / "runs" / "small") == {"best.ckpt", "last.ckpt", "logs"}
    assert list((tmp_path / "runs" / "small" / "logs").rglob("events.out.tfevents.*"))
    assert torch.load(tmp_path / "runs" / "small" / "last.ckpt", weights_only=True)["epoch"] == 1
    train("test", "--config", recipe, "--ckpt_path", "runs/small/best.ckpt")


def test_a_checkpoint_records_what_decides_its_weights(recipe: Path, train: Any, tmp_path: Path) -> None:
    arguments = ["--model.along_the_way=0.25", "--data", tmp_path, "--trainer.gradient_clip_val=0.5"]
    train("fit", "--config", recipe, *arguments, "--seed_everything=7")
    provenance = torch.load(tmp_path / "runs" / "small" / "last.ckpt", weights_only=True)["provenance"]
    made = provenance["recipe"]
    assert provenance["seed"] == 7
    assert made["model"]["init_args"]["classifier"]["init_args"]["hidden_size"] == 4
    assert made["model"]["init_args"]["along_the_way"] == 0.25
    assert made["model"]["init_args"]["optimizer"]["class_path"] == "torch.optim.Adam"
    assert made["data"]["init_args"] == {"dataset": "optdigits", "batch_size": 4}
    assert (made["trainer"]["gradient_clip_val"], made["trainer"]["processes"]) == (0.5, 1)


def test_the_recorded_recipe_makes_the_same_weights(recipe: Path, train: Any, tmp_path: Path) -> None:
    train("fit", "--config", recipe)
    first = torch.load(tmp_path / "runs" / "small" / "last.ckpt", weights_only=True)
    made = first["provenance"]["recipe"]
    processes = made["trainer"].pop("processes")
    made["trainer"] |= {"devices": processes, "limit_train_batches": 3, "limit_val_batches": 1}
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(made))
    train("fit", "--config", tmp_path / "again.yaml", "--seed_everything", str(first["provenance"]["seed"]))
    again = torch.load(tmp_path / "runs" / "again" / "last.ckpt", weights_only=True)
    for name, value in first["state_dict"].items():
        assert torch.equal(again["state_dict"][name], value), name


def test_folder_logger_and_checkpoints_can_be_chosen(recipe: Path, train: Any, tmp_path: Path) -> None:
    chosen = "--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint"
    options = ["--trainer.callbacks.dirpath=kept", "--trainer.callbacks.filename=mine"]
    elsewhere = f"--trainer.default_root_dir={tmp_path / 'elsewhere'}"
    train("fit", "--config", recipe, elsewhere, "--trainer.logger=false", chosen, *options)
    assert written(tmp_path / "kept") == {"mine.ckpt"}
    assert written(tmp_path / "elsewhere") == {"config.yaml"}
    assert not (tmp_path / "runs").exists()


def test_other_callbacks_come_in_addition(recipe: Path, train: Any, tmp_path: Path) -> None:
    stop = "--trainer.callbacks+=lightning.pytorch.callbacks.EarlyStopping"
    options = ["--trainer.callbacks.monitor=validation/loss", "--trainer.callbacks.stopping_threshold=100"]
    train("fit", "--config", recipe, stop, *options)
    assert written(tmp_path / "runs" / "small") == {"best.ckpt", "last.ckpt", "logs"}
    assert torch.load(tmp_path / "runs" / "small" / "last.ckpt", weights_only=True)["epoch"] == 0


def test_no_checkpoints_on_demand(recipe: Path, train: Any, tmp_path: Path) -> None:
    train("fit", "--config", recipe, "--trainer.enable_checkpointing=false")
    assert written(tmp_path / "runs" / "small") == {"logs"}


def test_the_other_commands_are_the_same_program(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "training", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)

    refused = run("curves", str(tmp_path), "--out", str(tmp_path / "plot"))
    assert refused.returncode == 1
    assert "found no TensorBoard log" in refused.stderr
    assert "--hidden-size" in run("gradients", "--help").stdout


def test_help_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert "`curves` draws the losses of runs, `gradients`" in " ".join(capsys.readouterr().out.split())


def test_data_directory_options() -> None:
    arguments = ["fit", "--data", "here", "--data=there", "--data.batch_size=3"]
    expected = ["fit", "--data.data", "here", "--data.data=there", "--data.batch_size=3"]
    assert data_directory_options(arguments) == expected
    assert data_directory_options(expected) == expected
