"""`python -m service doctor` finds what is in a server's way, and says what to do."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service import doctor
from service.engine import cgroups, cpus
from service.settings import Settings

Artifact = Callable[..., Path]


def examine(store: Path, *flags: str) -> doctor.Report:
    return doctor.examine(Settings.from_command_line(["--store", str(store), *flags]))


def run(*flags: object) -> tuple[int, str]:
    """Its exit status and what it printed; nothing else may print."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MOMENTUM_")}
    command = [sys.executable, "-W", "error", "-m", "service", "doctor", *map(str, flags)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert ended.stderr == ""
    return ended.returncode, ended.stdout


def test_where_all_is_well() -> None:
    status, text = run("--max-connections", 100)
    assert "digits, frames run on cpu\n" in text
    assert "digits, frames not on cuda: this onnxruntime" in text
    assert "Device     cpu: not CUDA: " in text
    assert "digits 1 READY\n" in text
    assert "digits, rows of 784: " in text
    assert text.endswith("Verdict    all is well\n")
    assert status == 0


def test_as_json(small_store: Path) -> None:
    status, text = run("--json", "--store", small_store, "--device", "cpu", "--max-connections", 100)
    report = doctor.Report.model_validate_json(text)
    assert json.loads(text)["device"] == "cpu"
    assert report.device_reason == "it was asked for"
    assert report.lanes == cpus.available()
    assert report.host.affinity == cpus.affinity()
    assert [(entry.name, entry.version, entry.state) for entry in report.store] == [
        ("digits", "1", "READY"),
        ("frames", "1", "READY"),
    ]
    assert {(run.model, run.device): run.runs for run in report.runs} == {
        ("digits", "cpu"): True,
        ("frames", "cpu"): True,
        ("digits", "cuda"): False,
        ("frames", "cuda"): False,
    }
    assert all(timing.milliseconds > 0 and timing.rows_per_second > 0 for timing in report.timings)
    assert report.problems == []
    assert status == 0


def test_a_device_that_is_not_there(small_store: Path) -> None:
    status, text = run("--store", small_store, "--device", "cuda")
    assert "Device     none\n" in text
    assert "- a server would not start: this onnxruntime" in text
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]'" in text
    assert status == 1


def test_artifacts_that_are_broken(tmp_path: Path, write_artifact: Artifact) -> None:
    write_artifact(tmp_path)
    graph = write_artifact(tmp_path, version="2") / "model.onnx"
    graph.write_bytes(b"")
    report = examine(tmp_path)
    assert report.device == "cpu"
    assert [(entry.version, entry.state) for entry in report.store] == [("1", "READY"), ("2", "UNAVAILABLE")]
    assert [problem for problem in report.problems if problem.startswith("digits version 2: ")]
    assert not report.runs[0].runs
    shutil.rmtree(tmp_path / "digits" / "1")
    report = examine(tmp_path)
    assert report.device is None
    assert [problem for problem in report.problems if problem.startswith("a server would not start: ")]


@pytest.mark.parametrize("make", [True, False])
def test_a_store_without_models(tmp_path: Path, make: bool) -> None:
    store = tmp_path / "store"
    if make:
        store.mkdir()
    report = examine(store)
    assert (report.runs, report.store, report.timings) == ([], [], [])
    assert report.problems[0].startswith(f"a server would not start: {store}: ")


def a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))


def few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (128, 256))


def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "memory_limit", lambda: 100 * 2**20)


def few_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus, "available", lambda: 1)


@pytest.mark.parametrize(
    ("want", "messages"),
    [
        (few_cpus, ["2 lanes wait for each other on 1 CPUs: leave --lanes out, or add CPUs"]),
        (
            a_full_disk,
            ["1 MiB are free for models in .*: free some", "1 MiB are free in /.*uploads of up to 64 MiB"],
        ),
        (few_files, ["256 open files are too few for --max-connections 200: `ulimit -Hn 300`"]),
        (little_memory, ["100 MiB of memory are too little for the models .* allow .* or let less wait"]),
    ],
)
def test_what_runs_short(
    small_store: Path, monkeypatch: pytest.MonkeyPatch, want: Callable[[Any], None], messages: list[str]
) -> None:
    want(monkeypatch)
    report = examine(small_store, "--lanes", "2" if want is few_cpus else "1", "--max-connections", "200")
    assert len(report.problems) == len(messages)
    for problem, message in zip(report.problems, messages, strict=True):
        assert re.search(message, problem)


@pytest.mark.parametrize(
    ("packages", "message"),
    [
        ({"onnxruntime", "onnxruntime-gpu"}, "both installed and overwrite each other's files"),
        ({"onnxruntime-gpu"}, "onnxruntime-gpu is installed, but a server would run on the CPU: not CUDA: "),
    ],
)
def test_packages_that_do_not_go_together(
    small_store: Path, monkeypatch: pytest.MonkeyPatch, packages: set[str], message: str
) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: "1.30.0" if name in packages else None)
    assert any(message in problem for problem in examine(small_store).problems)
