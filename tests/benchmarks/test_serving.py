"""The serving benchmark runs and reports; how fast anything is, no test says."""

import csv
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from benchmarks.serving import __main__ as benchmark

# A process of its own, since the benchmark ends all its descendants. Only what takes long is shortened.
SCRIPT = """
    import dataclasses, sys
    from benchmarks.serving import __main__ as benchmark, raw
    raw.BATCHES = (1, 4)
    benchmark.WARM_UP_SECONDS = 1
    benchmark.IDLE_SECONDS = 0.2
    benchmark.LONE_ROUNDS, benchmark.LONE_COUNT = 2, 3
    benchmark.SERVERS = [
        dataclasses.replace(server, payloads=server.payloads[:1]) for server in benchmark.SERVERS
    ]
    sys.exit(benchmark.main(sys.argv[1:]))
"""


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_it_measures_this_projects_server_and_reports(tmp_path: Path) -> None:
    done = run(
        "--only",
        "momentum-serve",
        "--connections",
        2,
        "--seconds",
        1,
        "--overload-seconds",
        1,
        "--out",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "serving.csv").open() as file:
        first, *others = csv.DictReader(file)
    assert (first["server"], first["payload"], first["connections"]) == ("momentum-serve", "v2-binary", "2")
    assert first["errors"] == "0"
    assert float(first["requests_per_second"]) > 0
    assert 0 < float(first["p50_ms"]) <= float(first["p99_ms"])
    assert float(first["cpu_ms"]) > 0.1  # there is a run of the graph in it
    assert {row["server"] for row in others} == {"onnxruntime"}
    report = (tmp_path / "serving.md").read_text()
    assert "not measured, or not to the end" not in report
    assert "ms over" in report
    assert "## Overload" in report


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_a_peer_that_cannot_be_had_is_told_of(tmp_path: Path) -> None:
    """Here Python finds no index to install from."""
    arguments = ["--only", "fastapi", "--seconds", "1", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(SCRIPT),
            *arguments,
            "--environments",
            str(tmp_path / "peers"),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ
        | {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert "**fastapi was not measured, or not to the end:** `" in (tmp_path / "out/serving.md").read_text()


def test_without_wrk_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert benchmark.main(["--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("wrk is not installed: `apt-get install wrk`")
    assert not list(tmp_path.iterdir())
