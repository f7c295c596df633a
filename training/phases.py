"""A curriculum: training in phases that differ in resolution, learning rate and how long the network
remembers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass
class Phase:
    """One stretch of a training run.

    Attributes:
        epochs: its length.
        size: images are averaged down to size x size pixels, so a sequence has size^2 steps; None leaves them
            as they are.
        lr_scale: the optimizer's learning rate is multiplied by it.
        schedule: "constant", or "one-cycle": a linear warm-up over the first `warmup` of the phase, then a
            half cosine to zero.
        warmup: the warmed-up share of a one-cycle phase.
        stretch_memory: added to the forget gates' biases (and taken from the input gates') when the phase
            begins; log 2 doubles how many steps each unit remembers, for a phase with more steps than the
            last.
    """

    epochs: int
    size: int | None = None
    lr_scale: float = 1.0
    schedule: Literal["constant", "one-cycle"] = "constant"
    warmup: float = 0.1
    stretch_memory: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"a phase needs at least 1 epoch, got {self.epochs}")
        if self.size is not None and self.size < 1:
            raise ValueError(f"a phase's image size must be at least 1, got {self.size}")
        if self.lr_scale <= 0:
            raise ValueError(f"a phase's lr_scale must be positive, got {self.lr_scale}")
        if not 0.0 <= self.warmup < 1.0:
            raise ValueError(f"a phase's warmup must be in [0, 1), got {self.warmup}")

    def learning_rate(self, progress: float) -> float:
        """The factor on the learning rate when `progress` in [0, 1] of the phase is done."""
        if self.schedule == "constant":
            return self.lr_scale
        if progress < self.warmup:
            return self.lr_scale * progress / self.warmup
        return (
            self.lr_scale * 0.5 * (1.0 + math.cos(math.pi * (progress - self.warmup) / (1.0 - self.warmup)))
        )


@dataclass(frozen=True)
class Curriculum:
    """Phases one after another.

    Attributes:
        phases: in order.
        steps_per_epoch: optimizer steps in an epoch.
    """

    phases: Sequence[Phase]
    steps_per_epoch: int = 1

    @property
    def epochs(self) -> int:
        """Epochs of all phases together."""
        return sum(phase.epochs for phase in self.phases)

    def at(self, epoch: float) -> tuple[Phase, float]:
        """The phase that `epoch` lies in (the last one past the end), and how many epochs of it are done."""
        done = epoch
        for phase in self.phases:
            if done < phase.epochs:
                return phase, done
            done -= phase.epochs
        return self.phases[-1], float(self.phases[-1].epochs)

    def learning_rate(self, step: int) -> float:
        """The factor on the learning rate for optimizer step number `step`, counted from 0."""
        # half a step on: neither a warm-up's first step nor a cosine's last is wasted on a rate of zero
        phase, done = self.at((step + 0.5) / self.steps_per_epoch)
        return phase.learning_rate(done / phase.epochs)
