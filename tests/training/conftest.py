"""Training in this process, as the command line does it: a process of its own takes ten seconds to start."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning import Trainer

from training import cli
from training.data import SPEECH, Segment, Speech, Split, Utterance

Train = Callable[..., Trainer]

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

    def run(*arguments: str | Path) -> Trainer:
        quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
        return cli.main([*map(str, arguments), *quiet])

    with warnings.catch_warnings():
        for message in HARMLESS:
            warnings.filterwarnings("ignore", message=message)
        yield run


HERTZ = {"low": 300.0, "middle": 1000.0, "high": 2500.0}


def load_tones(split: Split, _root: Path, _options: Mapping[str, Any]) -> Speech:
    """A tone between two silences, at 8 kHz: frames and utterances that a small network tells apart."""
    generator = np.random.default_rng(["train", "validation", "test"].index(split))
    utterances = []
    for number in range({"train": 24, "validation": 7, "test": 10}[split]):
        label = list(HERTZ)[number % 3]
        start, end, length = np.cumsum(generator.integers((300, 800, 300), (900, 2400, 900))).tolist()
        time = np.arange(length)
        samples = 0.3 * np.sin(2.0 * np.pi * HERTZ[label] * time / 8000) * ((time >= start) & (time < end))
        samples = (samples + 0.003 * generator.standard_normal(length)).astype(np.float32)
        bounds = ((0, start, "silence"), (start, end, label), (end, length, "silence"))
        segments = tuple(Segment(*bound) for bound in bounds)
        utterances.append(Utterance(f"{split}-{number}", "", samples, segments, label))
    labels = (*HERTZ, "silence")
    scored = {label: label for label in labels}
    return Speech("tones", split, 8000, labels, "silence", scored, tuple(utterances), {split: "0" * 64})


@pytest.fixture
def tones(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a data set of tones."""
    monkeypatch.setitem(SPEECH, "tones", load_tones)
    return "tones"
