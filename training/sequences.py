"""The Lightning modules of the problems that ask how long a network remembers: copying and adding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler

from models import SequenceModel
from training.problems import PROBLEMS, Examples, Problem
from training.task import Data, OptimizerFactory, Task

VALIDATION_STREAM, TEST_STREAM, TRAINING_STREAM = 0, 1, 2
HELD_OUT_SEED = 0  # the held-out examples are the same whatever the run's seed
HELD_OUT_COUNT = 1_000


class Onward(DistributedSampler[Any]):
    """Numbers in order, every epoch's going on where the last one's ended: no example comes twice."""

    def __iter__(self) -> Iterator[int]:
        first = self.epoch * self.total_size
        return iter(range(first + self.rank, first + self.total_size, self.num_replicas))


class SequenceData(Data):
    """An endless stream of examples to train on, 1,000 fixed ones to validate and 1,000 to test on.

    Args:
        problem: "copying" or "adding", see `Copying` and `Adding`.
        length: T, how long the network has to remember, in steps.
        batch_size: examples a training step and process.
        steps: training steps an epoch.
        seed: seed of the stream.

    Raises:
        ValueError: length is too small for the problem.
    """

    def __init__(
        self,
        problem: Literal["copying", "adding"],
        length: int = 200,
        batch_size: int = 128,
        steps: int = 100,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.name = problem
        self.problem: Problem = PROBLEMS[problem](length)
        self.batch_size = batch_size
        self.steps = steps
        self.seed = seed

    def train_dataloader(self) -> DataLoader[Any]:
        """Examples that the run has not seen, the same for a resumed run as for an uninterrupted one."""
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        count = self.steps * self.batch_size * world
        examples = Examples(self.problem, self.seed, TRAINING_STREAM, count)
        return DataLoader(examples, batch_size=self.batch_size, sampler=Onward(examples, world, rank))

    def val_dataloader(self) -> DataLoader[Any]:
        """The validation examples."""
        return self._held_out(VALIDATION_STREAM)

    def test_dataloader(self) -> DataLoader[Any]:
        """The test examples."""
        return self._held_out(TEST_STREAM)

    def provenance(self) -> dict[str, Any]:
        """Which data this is: the problem; there are no files."""
        return {"dataset": self.name, "sha256": {}}

    def _held_out(self, stream: int) -> DataLoader[Any]:
        return DataLoader(Examples(self.problem, HELD_OUT_SEED, stream, HELD_OUT_COUNT), batch_size=250)


class SequenceTask(Task):
    """A `SequenceModel` in training on a problem of `SequenceData`.

    Logs the loss, and as `baseline` the loss of the best answer without memory.

    Args:
        network: the network, with the problem's input_size and output_size.
        optimizer, orthogonal_lr, rebase_every, seed: see `Task`.

    Raises:
        ValueError: an argument is out of range.
    """

    monitor = ("validation/loss", "min")

    def __init__(
        self,
        network: SequenceModel,
        optimizer: OptimizerFactory = torch.optim.Adam,
        orthogonal_lr: float | None = None,
        rebase_every: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(optimizer, orthogonal_lr, rebase_every, seed)
        self.network = network

    def setup(self, stage: str) -> None:
        """Find the problem in the data.

        Raises:
            TypeError: the data are no `SequenceData`.
            ValueError: the network is for another problem.
        """
        del stage
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, SequenceData):
            raise TypeError(f"expected the data of SequenceData, got those of {type(data).__name__}")
        self.problem = data.problem
        wanted = (self.problem.input_size, self.problem.output_size)
        found = (self.network.rnn.input_size, self.network.head.out_features)
        if found != wanted:
            raise ValueError(
                f"the problem {data.name!r} needs a network with input_size {wanted[0]} and output_size "
                f"{wanted[1]}, got {found[0]} and {found[1]}"
            )

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Loss of one batch of inputs and targets."""
        loss = self._loss(batch)
        self.log("train/loss", loss.detach(), prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        """Loss on the validation examples."""
        self._evaluate("validation", batch)

    def test_step(self, batch: tuple[Tensor, Tensor]) -> None:
        """Loss on the test examples."""
        self._evaluate("test", batch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what it takes to build the network again and to say where it comes from."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["sequence_model"] = {"config": self.network.config, "weights": self.network.state_dict()}

    def _loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, targets = batch
        return self.problem.loss(self.network(inputs), targets)

    def _evaluate(self, split: str, batch: tuple[Tensor, Tensor]) -> None:
        metrics = {f"{split}/loss": self._loss(batch), "baseline": torch.tensor(self.problem.baseline)}
        self.log_dict(metrics, prog_bar=True, sync_dist=True, batch_size=len(batch[1]))
