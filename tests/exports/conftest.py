"""Checkpoints as training writes them, without the hours of training."""

from pathlib import Path

import pytest
import torch

from models import DigitClassifier

CHECKSUM = "0" * 64


def write_checkpoint(path: Path, classifier: DigitClassifier) -> Path:
    """Save `classifier` as `python -m training fit` on optdigits would."""
    provenance = {
        "recipe": {"model": {}},
        "seed": 1,
        "epochs": 3,
        "dataset": "optdigits",
        "sha256": {"x": CHECKSUM},
    }
    weights = {"config": classifier.config, "weights": classifier.state_dict()}
    torch.save({"classifier": weights, "provenance": provenance}, path)
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return write_checkpoint(tmp_path / "best.ckpt", DigitClassifier(hidden_size=8, longest=64))
