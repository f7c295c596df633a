"""The Lightning modules of the digits job: the data, and the classifier in training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast, get_args

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from models import LSTM, DigitClassifier, orthogonal_parameters, stretch_memory_
from training.augmentation import Augmentation
from training.data import Digits, Split, data_directory, load
from training.phases import Curriculum, Phase
from training.task import Data, OptimizerFactory, Task


class DigitsData(Data):
    """Images and labels of a registered data set, as float32 [batch, rows, columns] in [0, 1] and int64
    [batch].

    Args:
        dataset: its name ("mnist", "optdigits").
        data: the data directory; default `MOMENTUM_DATA`, else ~/.cache/momentum-serve.
        batch_size: images a training step and process.
        seed: seed of the shuffling, which depends on it and on the epoch's number alone.
    """

    def __init__(self, dataset: str, data: Path | None = None, batch_size: int = 128, seed: int = 0) -> None:
        super().__init__()
        self.dataset = dataset
        self.directory = data_directory(data)
        self.batch_size = batch_size
        self.seed = seed
        self.splits: dict[str, Digits] = {}

    def prepare_data(self) -> None:
        """Download what is missing, on one process."""
        for name in get_args(Split):
            load(self.dataset, name, self.directory)

    def setup(self, stage: str) -> None:
        """Read the splits that `stage` needs."""
        names: tuple[Split, ...] = (
            ("train", "validation")
            if stage == "fit"
            else ("validation",)
            if stage == "validate"
            else ("test",)
        )
        for name in names:
            if name not in self.splits:
                self.splits[name] = load(self.dataset, name, self.directory)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Shuffled by seed and epoch alone, so that a resumed run sees the order it would have seen."""
        tensors = self._tensors("train")
        # also for one process: the stock sampler whose order is a function of seed and epoch
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        sampler: DistributedSampler[Any] = DistributedSampler(tensors, world, rank, seed=self.seed)
        return DataLoader(tensors, batch_size=self.batch_size, sampler=sampler, drop_last=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """The validation split, in order."""
        return DataLoader(self._tensors("validation"), batch_size=250)

    def test_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """The test split, in order."""
        return DataLoader(self._tensors("test"), batch_size=250)

    def provenance(self) -> dict[str, Any]:
        """Which data this is: name, and the SHA-256 of its files."""
        checksums = {name: value for split in self.splits.values() for name, value in split.checksums.items()}
        return {"dataset": self.dataset, "sha256": checksums}

    def _tensors(self, split: Split) -> TensorDataset:
        digits = self.splits[split]
        return TensorDataset(torch.from_numpy(digits.pixels(slice(None))), torch.from_numpy(digits.labels))


class DigitsTask(Task):
    """A `DigitClassifier` in training, phase by phase.

    The loss is the cross entropy of what the network believes after every row of the image, weighted by the
    square of the time and more at the end: on the last step alone a sequence of 784 steps hardly learns for
    epochs, and the probabilities along the way would mean nothing.

    Args:
        classifier: the network.
        phases: the curriculum; the trainer's max_epochs must be the phases' epochs together, or fewer. None
            for whole images at the optimizer's learning rate for as long as the trainer runs.
        optimizer, orthogonal_lr, rebase_every, seed: see `Task`.
        along_the_way: share of the loss that is spread over the rows; 0 counts the last step only.
        augmentation: random changes of the training images; None for none.
        averaging: decay per step of an exponential moving average of the weights, which is then what is
            validated, tested and exported (Polyak averaging); None for none.

    Raises:
        ValueError: an argument is out of range, or does not go with another or with the network.
    """

    monitor = ("validation/accuracy", "max")

    def __init__(
        self,
        classifier: DigitClassifier,
        phases: list[Phase] | None = None,
        optimizer: OptimizerFactory = torch.optim.Adam,
        orthogonal_lr: float | None = None,
        rebase_every: int | None = None,
        along_the_way: float = 0.5,
        augmentation: Augmentation | None = None,
        averaging: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(optimizer, orthogonal_lr, rebase_every, seed)
        if phases is not None and not phases:
            raise ValueError("expected at least one phase, or none given")
        if not 0.0 <= along_the_way < 1.0:
            raise ValueError(f"along_the_way must be in [0, 1), got {along_the_way}")
        if averaging is not None and rebase_every is not None and orthogonal_parameters(classifier):
            raise ValueError(
                "averaging cannot go with rebase_every: the mean of coordinates around bases that move is no "
                "mean of orthogonal matrices. Leave one of the two out"
            )
        if phases and any(phase.stretch_memory for phase in phases) and classifier.rnn.recurrence is not LSTM:
            raise ValueError("a phase's stretch_memory is for the gates of an LSTM: leave it out")
        self.classifier = classifier
        self.phases = phases
        self.curriculum = Curriculum(phases or [Phase(epochs=1)])  # the last phase goes on
        self.along_the_way = along_the_way
        self.augmentation = augmentation
        self.average: AveragedModel | None = None
        if averaging is not None:
            decay = get_ema_multi_avg_fn(averaging)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(classifier, multi_avg_fn=decay).requires_grad_(False)
        self.accuracy = MulticlassAccuracy(classifier.head.out_features, average="micro")

    @property
    def result(self) -> DigitClassifier:
        """The network with the weights that count: the averaged ones where there are any."""
        return self.classifier if self.average is None else cast(DigitClassifier, self.average.module)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer with the curriculum's learning rate, set anew each step.

        Raises:
            ValueError: the trainer would run past the last phase, or not at all.
        """
        optimizer = self.make_optimizer()
        if self.phases is None:
            return optimizer
        epochs = self.trainer.max_epochs
        if epochs is None or not 1 <= epochs <= self.curriculum.epochs:
            raise ValueError(
                f"trainer.max_epochs is {epochs}, but the phases have {self.curriculum.epochs} epochs: "
                "set it to that, or to fewer (at least 1) to stop early"
            )
        _ = self.trainer.estimated_stepping_batches  # loads the data, so that the number of batches is known
        steps = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        self.curriculum = Curriculum(self.curriculum.phases, steps)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.curriculum.learning_rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Begin a phase if one begins with this epoch."""
        phase, done = self.curriculum.at(self.current_epoch)
        if done == 0 and phase.stretch_memory:
            stretch_memory_(self.classifier.rnn, phase.stretch_memory)
            if self.average is not None:
                stretch_memory_(self.result.rnn, phase.stretch_memory)

    def on_train_batch_end(self, *_: Any) -> None:
        """Move the average."""
        if self.average is not None:
            self.average.update_parameters(self.classifier)

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Loss of one batch of images [batch, rows, columns] and labels [batch]."""
        images, labels = batch
        if self.augmentation is not None:
            images = self.augmentation(images)
        images = self._resize(images)
        rows = images.shape[1]
        every = images.shape[2] if self.along_the_way else images[0].numel()
        logits, _ = self.classifier.read(images, every=every)
        if self.along_the_way:
            time = torch.arange(1, rows + 1, dtype=logits.dtype, device=logits.device) / rows
            weights = self.along_the_way * time.square() / time.square().sum()
            weights[-1] += 1.0 - self.along_the_way
        else:
            weights = logits.new_ones(1)
        errors = cross_entropy(logits.flatten(0, 1), labels.repeat_interleave(len(weights)), reduction="none")
        errors = errors.view(len(labels), -1)
        with torch.no_grad():
            self.log("train/loss", errors[:, -1].mean(), prog_bar=True)
            self.log("train/accuracy", (logits[:, -1].argmax(1) == labels).float().mean(), prog_bar=True)
        return (errors @ weights).mean()

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        """Loss and accuracy at full resolution, which is what a checkpoint is judged by, and at the
        phase's.
        """
        self._evaluate("validation", batch)
        images = self._resize(batch[0])
        if images is not batch[0] and not self.trainer.validating:
            accuracy = (self.result(images).argmax(dim=1) == batch[1]).float().mean()
            self.log(
                "validation/phase_accuracy", accuracy, prog_bar=True, sync_dist=True, batch_size=len(images)
            )

    def test_step(self, batch: tuple[Tensor, Tensor]) -> None:
        """Loss and accuracy at full resolution."""
        self._evaluate("test", batch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what an export needs to build the network again and to say where it comes from."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["classifier"] = {"config": self.result.config, "weights": self.result.state_dict()}

    def _resize(self, images: Tensor) -> Tensor:
        phase, _ = self.curriculum.at(self.current_epoch)
        if phase.size is None or tuple(images.shape[1:]) == (phase.size, phase.size):
            return images
        return adaptive_avg_pool2d(images, phase.size)

    def _evaluate(self, split: str, batch: tuple[Tensor, Tensor]) -> None:
        images, labels = batch
        logits = self.result(images)
        self.accuracy(logits, labels)
        loss = cross_entropy(logits, labels)
        metrics: dict[str, Tensor | Metric] = {f"{split}/loss": loss, f"{split}/accuracy": self.accuracy}
        self.log_dict(metrics, prog_bar=True, sync_dist=True, batch_size=len(labels))
