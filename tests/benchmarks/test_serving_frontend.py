"""What a request costs the event loop, measured for a moment."""

import shutil
from pathlib import Path

import pytest

from benchmarks.serving import frontend


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk: apt-get install wrk")
def test_it_measures_every_payload(tmp_path: Path) -> None:
    assert frontend.main(["--seconds", "1", "--out", str(tmp_path)]) == 0
    rows = [line.split("|")[1:-1] for line in (tmp_path / "frontend.md").read_text().splitlines()[9:]]
    assert [row[0].strip() for row in rows] == ["v2-binary", "json", "v2-json", "image"]
    assert all(0 < float(row[3]) < 1 < float(row[1]) for row in rows)
