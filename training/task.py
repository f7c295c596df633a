"""What every training task and its data have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from lightning import LightningDataModule, LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler

from models import orthogonal_parameters, rebase_

Parameters = Iterable[torch.nn.Parameter] | Iterable[dict[str, Any]]
OptimizerFactory = Callable[[Parameters], torch.optim.Optimizer]

REBASES_BETWEEN_PROJECTIONS = 100  # as the authors of DTRIV and MomentumRNN have it


class Data(LightningDataModule, ABC):
    """A data set in batches, the same for the same seed."""

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Which data this is: its name as `dataset`, and the checksums of its files as `sha256`."""


class Task(LightningModule, ABC):
    """A network in training.

    Args:
        optimizer: makes the optimizer from the parameters.
        orthogonal_lr: learning rate of the orthogonal matrices; None for the optimizer's.
        rebase_every: optimizer steps between two moves of the orthogonal matrices' bases, K of DTRIV; None
            for infinity: the base is where the matrix was when training began. Every 100th move also takes
            the accumulated rounding out of it.
        seed: seed of everything that is drawn in a step; each draw depends on it and on the step's number
            alone.

    Attributes:
        monitor: the metric that chooses the best checkpoint, and whether its least or its greatest is best.
        recipe: the configuration this run was made from, kept in its checkpoints.

    Raises:
        ValueError: an argument is out of range.
    """

    monitor: ClassVar[tuple[str, Literal["min", "max"]]]

    def __init__(
        self,
        optimizer: OptimizerFactory,
        orthogonal_lr: float | None,
        rebase_every: int | None,
        seed: int,
    ) -> None:
        super().__init__()
        if orthogonal_lr is not None and orthogonal_lr <= 0:
            raise ValueError(f"orthogonal_lr must be positive, got {orthogonal_lr}")
        if rebase_every is not None and rebase_every < 1:
            raise ValueError(
                f"rebase_every must be at least 1 step, or null for infinity, got {rebase_every}"
            )
        self.optimizer = optimizer
        self.orthogonal_lr = orthogonal_lr
        self.rebase_every = rebase_every
        self.seed = seed
        self.recipe: dict[str, Any] = {}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer, at one learning rate throughout."""
        return self.make_optimizer()

    def make_optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of all that is trained, with a group of their own for the orthogonal matrices.

        Raises:
            ValueError: options for orthogonal matrices are given, and there is none.
        """
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        matrices = {id(parameter) for parameter in orthogonal_parameters(self)}
        orthogonal = [parameter for parameter in trained if id(parameter) in matrices]
        if not orthogonal:
            if self.orthogonal_lr is not None or self.rebase_every is not None:
                raise ValueError(
                    "orthogonal_lr and rebase_every are for networks with orthogonal matrices, and this has "
                    "none: choose the recurrence 'orthogonal', or leave them out"
                )
            return self.optimizer(trained)
        rest = {"params": [parameter for parameter in trained if id(parameter) not in matrices]}
        special: dict[str, Any] = {"params": orthogonal}
        if self.orthogonal_lr is not None:
            special["lr"] = self.orthogonal_lr
        return self.optimizer([rest, special])

    def on_train_batch_start(self, *_: Any) -> None:
        """Seed the step, so that a resumed run draws what an uninterrupted one would have drawn; and move the
        orthogonal matrices' bases when it is time.
        """
        sequence = np.random.SeedSequence([self.seed, self.global_step, self.global_rank])
        torch.manual_seed(int(sequence.generate_state(1)[0]))
        # before the first step in any case: the authors' A starts at 0
        if self.rebase_every is None:
            moves, since = 0, self.global_step
        else:
            moves, since = divmod(self.global_step, self.rebase_every)
        if since == 0:
            rebase_(self, project=(moves + 1) % REBASES_BETWEEN_PROJECTIONS == 0)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say where the weights come from."""
        data = getattr(self.trainer, "datamodule", None)
        checkpoint["provenance"] = {
            "recipe": self.recipe,
            "seed": self.seed,
            "epochs": self.current_epoch + 1,
            **(data.provenance() if isinstance(data, Data) else {}),
        }
