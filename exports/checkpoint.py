"""What an export reads from a training checkpoint. Nothing in the file is executed."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from exports.errors import ExportError
from models import DigitClassifier, FrameModel


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and where it comes from.

    Attributes:
        network: in evaluation mode.
        labels: what a `FrameModel`'s outputs mean.
        silence: which of them means that nothing is said.
        provenance: where the weights come from.
    """

    network: DigitClassifier | FrameModel
    labels: list[str]
    silence: str | None
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
    if not isinstance(content, dict) or "provenance" not in content:
        raise ExportError(f"{path}: is no training checkpoint; {advice}")
    kinds = [kind for kind in ("classifier", "frame_model") if kind in content]
    if not kinds:
        raise ExportError(f"{path}: holds neither a digit classifier nor a frame model; {advice}")
    saved, provenance = content[kinds[0]], content["provenance"]
    make = DigitClassifier if kinds[0] == "classifier" else FrameModel
    try:
        network = make(**saved["config"])
        network.load_state_dict(saved["weights"])
        missing = {"dataset", "recipe", "seed", "epochs", "sha256"} - provenance.keys()
        if missing:
            raise KeyError(f"no {', '.join(sorted(missing))}")
        outputs, labels = network.head.out_features, saved.get("labels")
        if labels is not None and len(labels) != outputs:
            raise ValueError(f"{len(labels)} labels for {outputs} outputs")
    except (AttributeError, KeyError, TypeError, RuntimeError, ValueError) as error:
        raise ExportError(
            f"{path}: does not fit this version's {make.__name__} ({error}); train it again"
        ) from error
    if isinstance(network, DigitClassifier):
        labels = [str(label) for label in range(outputs)]
    elif labels is None:
        raise ExportError(
            f"{path}: predicts features, and has no classes to serve; expected a checkpoint of "
            "training.frames.FramesTask"
        )
    return Checkpoint(network.eval(), labels, saved.get("silence"), provenance)
