"""Several processes, started as their user starts them, train what one process would have trained."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

ROOT = Path(__file__).parents[2]
# what draws (augmentation, dropout) draws for a process's share of the batch, not for the batch: it is off
RECIPE: dict[str, Any] = {
    "seed_everything": 1,
    "trainer": {
        "max_epochs": 2,
        "gradient_clip_val": 1.0,
        "limit_train_batches": 4,
        "limit_val_batches": 1,
        "num_sanity_val_steps": 0,
        "precision": "64-true",
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "enable_model_summary": False,
    },
    "model": {
        "classifier": {"hidden_size": 8, "filter": "momentum", "filter_options": {"mu": 0.6, "epsilon": 0.6}},
        "averaging": 0.9,
    },
    "data": {"dataset": "optdigits", "batch_size": 16},
}
FAILING = """
from lightning.pytorch import Callback

class Failing(Callback):
    def on_train_batch_start(self, trainer, module, batch, index):
        if trainer.global_rank == 1 and index == 2:
            raise RuntimeError("this machine is on fire")
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return path


def start(folder: Path, command: Sequence[str], log: str) -> subprocess.Popen[bytes]:
    path = f"{ROOT}:{folder}"
    with (folder / log).open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def fit(recipe: Path, *options: str) -> list[str]:
    return ["training", "fit", "--config", str(recipe), *options]


def start_nodes(folder: Path, *options: str) -> list[subprocess.Popen[bytes]]:
    """torchrun as on two machines, with one process each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    command += ["--master-addr", "127.0.0.1", "--master-port", str(port)]
    training = ["-m", *fit(folder / "recipe.yaml", *options)]
    return [
        start(folder, [*command, "--node-rank", str(rank), *training], f"node-{rank}.log")
        for rank in range(2)
    ]


def finish(folder: Path, process: subprocess.Popen[bytes], log: str, timeout: float = 200) -> str:
    """What a process wrote, when it is done."""
    try:
        process.wait(timeout)
    finally:
        process.kill()
    return (folder / log).read_text()


def test_two_machines_train_what_one_process_trains(recipe: Path, tmp_path: Path) -> None:
    nodes = start_nodes(tmp_path, "--trainer.default_root_dir=two")
    batch = "--data.batch_size=32"  # as many a step
    one = start(tmp_path, fit(recipe, batch, "--trainer.default_root_dir=one"), "one.log")
    for process, log in [*zip(nodes, ("node-0.log", "node-1.log"), strict=True), (one, "one.log")]:
        written = finish(tmp_path, process, log)
        assert process.returncode == 0, written
    wanted, actual = (torch.load(tmp_path / run / "last.ckpt", weights_only=True) for run in ("one", "two"))
    assert actual["global_step"] == wanted["global_step"] == 8
    assert actual["provenance"]["recipe"]["trainer"]["processes"] == 2
    for name, value in wanted["state_dict"].items():
        torch.testing.assert_close(actual["state_dict"][name], value, rtol=0, atol=1e-12, msg=name)
    logs = list((tmp_path / "two").rglob("events.out.tfevents.*"))
    assert len(logs) == 1, "one process writes the log"


@pytest.mark.usefixtures("recipe")
def test_a_process_that_fails_ends_the_other(tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    nodes = start_nodes(tmp_path, "--trainer.callbacks+=failing.Failing")
    other, failed = (finish(tmp_path, node, f"node-{rank}.log") for rank, node in enumerate(nodes))
    assert [node.returncode for node in nodes] == [1, 1]
    assert "this machine is on fire" in failed
    assert "by peer" in other  # closed, or reset


def test_two_processes_that_are_told_to_end_do(recipe: Path, tmp_path: Path) -> None:
    long = ["--trainer.max_epochs=1000", "--trainer.default_root_dir=run"]
    process = start(tmp_path, fit(recipe, "--trainer.devices=2", "--trainer.strategy=ddp", *long), "two.log")
    while not (tmp_path / "run" / "last.ckpt").exists():
        assert process.poll() is None, (tmp_path / "two.log").read_text()
        time.sleep(0.01)
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGTERM)
    written = finish(tmp_path, process, "two.log", timeout=60)
    assert process.returncode == -signal.SIGTERM, written
    deadline = time.monotonic() + 60
    while Path("/proc", child).exists():
        assert time.monotonic() < deadline, "the second process is left"
        time.sleep(0.05)
