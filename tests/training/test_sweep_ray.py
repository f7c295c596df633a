"""Sweeps on a Ray of this machine alone: Ray from its own environment, the rest from this one."""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.training.test_sweep import RANGES, RECIPE, ROOT, finish, found, start_sweep, table
from training import sweep

PYTHON = ROOT / ".venv" / "ray" / "bin" / "python"
with_ray = pytest.mark.skipif(
    not PYTHON.exists() and os.environ.get("CI") != "true", reason="Ray is not set up: make .venv/ray.stamp"
)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return path


@pytest.fixture
def ray_environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """For a Ray that nobody else reaches."""
    with tempfile.TemporaryDirectory(prefix="ray") as short:  # sockets' paths have to be short
        yield {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
            "PYTHONPATH": f"{ROOT}:{tmp_path}:{sysconfig.get_path('purelib')}",
            "RAY_TMPDIR": short,
            "RAY_worker_niceness": "0",  # 15, Ray's own, starves it beside the other tests
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }


def start_on_ray(folder: Path, environment: dict[str, str], out: str) -> subprocess.Popen[str]:
    command = ["sweep", "--config", "recipe.yaml", *RANGES, "--trials", "2", "--out", out, "--ray", "2"]
    return subprocess.Popen(
        [PYTHON, "-m", "training", *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # a background job's children ignore Ctrl-C otherwise
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def trainings(folder: Path) -> list[str]:
    """Command lines of the trainings that run in this folder."""
    lines = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if " fit " in line and str(folder) in line:
            lines.append(line)
    return lines


@with_ray
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("recipe")
def test_workers_on_ray_find_what_a_process_finds(tmp_path: Path, ray_environment: dict[str, str]) -> None:
    alone = start_sweep(tmp_path, "alone")
    output = finish(start_on_ray(tmp_path, ray_environment, "out"))
    finish(alone)
    assert sorted(re.findall("^trial [0-9]+", output, re.MULTILINE)) == ["trial 0", "trial 1"]
    assert "best of 2: trial " in output.splitlines()[-3]
    assert sorted(path.name for path in (tmp_path / "out").glob("trial-*")) == ["trial-0000", "trial-0001"]
    assert found(tmp_path / "out") == found(tmp_path / "alone")
    assert {row["state"] for row in table(tmp_path / "out")} == {"complete"}


@with_ray
@pytest.mark.usefixtures("recipe")
def test_ctrl_c_ends_the_workers(tmp_path: Path, ray_environment: dict[str, str]) -> None:
    process = start_on_ray(tmp_path, ray_environment, "out")
    while not trainings(tmp_path):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    finish(process, 130)
    deadline = time.monotonic() + 60
    while trainings(tmp_path):
        assert time.monotonic() < deadline, trainings(tmp_path)
        time.sleep(0.05)
    assert not list((tmp_path / "out").glob(".ray*"))


@with_ray
@pytest.mark.usefixtures("recipe")
def test_what_cannot_be_reached_is_told_at_once(tmp_path: Path, ray_environment: dict[str, str]) -> None:
    """A cluster, of the command; the folder, of a worker. In one process, as it takes long to start."""
    code = """
import sys
import time
from pathlib import Path
from training import sweep
from training.ray_sweep import work

begun = time.monotonic()
assert sweep.main(sys.argv[1:]) == 1
assert time.monotonic() - begun < 6
try:
    work(lambda folder: None, Path("/nowhere/.ray.sign"), 1, 1, False)
except sweep.SweepError as error:
    print(error, file=sys.stderr)
"""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        done = subprocess.run(
            [PYTHON, "-c", code, "--config", "recipe.yaml", *RANGES, "--out", "out", "--ray", "2"],
            cwd=tmp_path,
            env=ray_environment | {"RAY_ADDRESS": f"ray://{address}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    unreachable, unseen = done.stderr.splitlines()
    assert unreachable.startswith(f"error: nothing can be reached at RAY_ADDRESS=ray://{address} (")
    assert unseen.endswith(" does not see /nowhere: --out must be a folder that all nodes see")
    assert not (tmp_path / "out").exists()


def test_without_ray_it_says_what_to_install(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    out = tmp_path / "out"
    assert sweep.main(["--config", str(recipe), *RANGES, "--out", str(out), "--ray", "2"]) == 1
    assert "--ray needs Ray: in the project's folder, pip install -e '.[ray]'" in capsys.readouterr().err
    assert not out.exists()
