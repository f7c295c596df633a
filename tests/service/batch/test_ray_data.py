"""Ray Data classifies as `python -m service batch` does."""

from __future__ import annotations

import os
import secrets
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.service.batch.conftest import Batch, rows
from tests.service.conftest import service_environment

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venv" / "ray" / "bin" / "python"


@pytest.mark.skipif(
    not PYTHON.exists() and os.environ.get("CI") != "true", reason="Ray is not set up: make .venv/ray.stamp"
)
def test_same_rows(batch: Batch, digits_folder: Path, tmp_path: Path) -> None:
    folder = digits_folder / "0"
    (tmp_path / "bad.png").write_bytes(b"no picture")
    command = [PYTHON, "-m", "tests.service.batch.ray_job", tmp_path / "ray", folder, tmp_path / "bad.png"]
    with tempfile.TemporaryDirectory(prefix="ray") as short:  # sockets' paths have to be short
        environment = service_environment() | {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": short,
            "RAY_worker_niceness": "0",  # 15, Ray's own, starves it beside the other tests
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False
        )
    assert done.returncode == 0, done.stderr
    assert batch(folder, "--out", tmp_path / "out").status == 0
    found = {Path(row["path"]).name: row | {"path": Path(row["path"]).name} for row in rows(tmp_path / "ray")}
    assert found.pop("bad.png")["error"] == "the bytes are not an image in a known format"
    assert found == {row["path"]: row for row in rows(tmp_path / "out")}
