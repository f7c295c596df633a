"""A network and its graph, and how verification asks both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from exports.exported import Exported
from exports.session import Runner

# of one sequence: the probabilities [steps, classes], what is said of the whole if anything, the states
Row = list[npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Subject(ABC):
    """What a task has of its own.

    Attributes:
        network: a `DigitClassifier` or a `FrameModel`, in evaluation mode.
        exported: its graph.
        unit: how many numbers of a sequence make a step.
    """

    network: Any
    exported: Exported
    unit: int = 1

    @property
    def streams(self) -> bool:
        """Whether the network can be fed in chunks, and with sequences of any length."""
        return True

    @abstractmethod
    def runner(self) -> Runner:
        """The graph in onnxruntime, with one thread."""

    @abstractmethod
    def redrawn(self) -> Subject:
        """A copy whose recurrence and head have other parameters, drawn by torch's generator."""

    @abstractmethod
    def draw(self, batch: int, size: int, generator: torch.Generator) -> Tensor:
        """Sequences [batch, size]."""

    @abstractmethod
    def ask(self, network: Any, x: Tensor) -> list[Row]:
        """What PyTorch says of sequences, with the recurrence's states; `network` is this one, or its copy in
        float64.
        """
