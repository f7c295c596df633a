"""The README's walk-through, word for word but for the folders: train, test, export, verify."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(600)
def test_train_test_export_verify(tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    recipe = str(ROOT / "training" / "recipes" / "optdigits.yaml")
    run("training", "fit", "--config", recipe)
    tested = run("training", "test", "--config", recipe, "--ckpt_path", "runs/optdigits/best.ckpt")
    found = re.search(r"test/accuracy\D+(0\.\d+)", tested)
    assert found
    assert float(found[1]) >= 0.95
    run("exports", "runs/optdigits/best.ckpt", "--name", "optdigits", "--store", "store")
    verified = run("exports", "verify", "optdigits", "--store", "store")
    assert f"{100 * float(found[1]):.2f} %" in verified
    assert ": reproduced" in verified
