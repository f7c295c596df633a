"""KServe's client talks to this server."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.service.conftest import WEIGHTS

PYTHON = Path(__file__).parents[3] / ".venv" / "kserve" / "bin" / "python"


@pytest.mark.skipif(
    not PYTHON.exists() and os.environ.get("CI") != "true",
    reason="KServe's client is not set up: make .venv/kserve.stamp",
)
def test_kserve(small_server: Any) -> None:
    command = [PYTHON, Path(__file__).with_name("kserve_client.py"), small_server.url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert [found[name] for name in ("live", "ready", "model ready", "letters ready")] == [
        True,
        True,
        True,
        False,
    ]
    scores = np.exp(np.float32([[2], [0.25]]) * WEIGHTS)
    for way in ("binary", "json"):
        assert found[way]["id"] == "7"
        outputs = found[way]["outputs"]
        assert set(outputs) == {"probabilities", "trace"}
        np.testing.assert_allclose(
            outputs["probabilities"], scores / scores.sum(axis=1, keepdims=True), atol=1e-6
        )
    status, message = found["error"]
    assert status == 400
    assert "input pixels (FP32 [-1, -1]) is missing; the request has none" in message
