"""The artifacts in the repository are what their cards say."""

from pathlib import Path

import numpy as np
import pytest

from exports.card import Exactness
from exports.cli import main
from exports.exactness import measure_exactness
from exports.session import DigitsRunner
from exports.store import DEFAULT_STORE, read_card

DIGITS = np.load(Path(__file__).parents[1] / "fixtures" / "mnist-test-500.npz")


def test_digits_reads_real_digits() -> None:
    folder, card = read_card(DEFAULT_STORE, "digits")
    (accuracy,) = card.metrics
    assert (accuracy.dataset, accuracy.split, accuracy.count) == ("mnist", "test", 10_000)
    assert accuracy.value >= 0.985
    pixels = DIGITS["images"].reshape(500, 784).astype(np.float32) / np.float32(255)
    right = DigitsRunner(folder / card.file.name, card).classify(pixels) == DIGITS["labels"]
    assert right.mean() >= 0.98
    assert sum(file.stat().st_size for file in folder.iterdir()) < 2**20


def test_digits_keeps_its_card_s_promises() -> None:
    folder, card = read_card(DEFAULT_STORE, "digits")
    assert card.exactness == Exactness(batched="bitwise", padded="bitwise", streamed="bitwise")
    images = np.random.default_rng(0).random((8, 784), np.float32)
    assert measure_exactness(DigitsRunner(folder / card.file.name, card), images) == card.exactness


def test_digits_accuracy_reproduces(shared_datasets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "digits", "--data", str(shared_datasets)]) == 0
    assert "accuracy on mnist test (10000 examples)" in capsys.readouterr().out
