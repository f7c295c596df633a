"""Nothing is reported to anybody."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUN = """
from pathlib import Path
{imports}
import onnxruntime
onnxruntime.InferenceSession(Path("exports/store/digits/1/model.onnx").read_bytes())
"""


@pytest.mark.parametrize("package", ["exports", "service", "service.engine", "exports.session"])
def test_onnxruntime_keeps_no_identifier(tmp_path: Path, package: str) -> None:
    """With its telemetry on, it writes one into the user's cache when it runs its first graph."""
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    code = RUN.format(imports=f"import {package}")
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
    assert list(tmp_path.rglob("*onnxruntime*")) == []
