"""What a request costs the event loop, measured for a moment."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk: apt-get install wrk")
def test_it_measures_every_payload(tmp_path: Path) -> None:
    """In a process of its own: it ends all of its descendants."""
    command = [sys.executable, "-m", "benchmarks.serving.frontend", "--seconds", "1", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=250)
    rows = [line.split("|")[1:-1] for line in (tmp_path / "frontend.md").read_text().splitlines()[9:]]
    assert [row[0].strip() for row in rows] == ["v2-binary", "json", "v2-json", "image"]
    assert all(0 < float(row[3]) < 1 < float(row[1]) for row in rows)
