"""Training in this process, as the command line does it: a process of its own takes ten seconds to start."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from training import cli

Train = Callable[..., None]

# what Lightning has to say about small runs, and about PyTorch
HARMLESS = (
    ".*does not have many workers",
    "The number of training batches",
    "Checkpoint directory .* exists and is not empty",
    ".*LeafSpec",
)


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Train]:
    """`python -m training` with these arguments, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # Lightning's business
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")  # set by Lightning: put back after the test

    def run(*arguments: str | Path) -> None:
        quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
        cli.main([*map(str, arguments), *quiet])

    with warnings.catch_warnings():
        for message in HARMLESS:
            warnings.filterwarnings("ignore", message=message)
        yield run
