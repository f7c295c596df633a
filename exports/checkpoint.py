"""What an export reads from a training checkpoint. Nothing in the file is executed."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from exports.errors import ExportError
from models import DigitClassifier


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and where it comes from."""

    classifier: DigitClassifier
    dataset: str
    provenance: dict[str, Any]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint that `python -m training fit` wrote.

    Raises:
        ExportError: there is no such file, it is damaged, or it is not such a checkpoint.
    """
    advice = "expected a checkpoint written by `python -m training fit`, such as runs/digits/best.ckpt"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ExportError(f"{path}: no such file; {advice}") from None
    except OSError as error:
        raise ExportError(f"{path}: cannot be read ({error.strerror}); {advice}") from error
    except (RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        # torch's own words advise to load the file unsafely
        raise ExportError(f"{path}: is damaged, or no file of weights; {advice}") from error
    if not isinstance(content, dict) or not {"classifier", "provenance"} <= content.keys():
        raise ExportError(f"{path}: holds no digit classifier; {advice}")
    provenance = content["provenance"]
    try:
        classifier = DigitClassifier(**content["classifier"]["config"])
        classifier.load_state_dict(content["classifier"]["weights"])
        missing = {"dataset", "recipe", "seed", "epochs", "sha256"} - provenance.keys()
        if missing:
            raise KeyError(f"no {', '.join(sorted(missing))}")
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise ExportError(
            f"{path}: does not fit this version's DigitClassifier ({error}); train it again"
        ) from error
    return Checkpoint(classifier.eval(), str(provenance["dataset"]), provenance)
