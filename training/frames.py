"""The Lightning modules of the speech job: frames classified, and frames predicted."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.functional import cross_entropy

from models import FrameModel
from training.phases import Phase
from training.speech import NO_LABEL, SpeechBatch, SpeechData
from training.speech_augmentation import Masking, SpeechAugmentation
from training.task import OptimizerFactory, Task


class SpeechTask(Task):
    """A `FrameModel` in training on the utterances of `SpeechData`.

    Args:
        network: the network.
        optimizer, orthogonal_lr, rebase_every, seed: see `Task`.
        warmup: share of the run over which the learning rate rises to the optimizer's; it then falls to zero
            in half a cosine. None for one rate throughout.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        network: FrameModel,
        optimizer: OptimizerFactory,
        orthogonal_lr: float | None,
        rebase_every: int | None,
        warmup: float | None,
        seed: int,
    ) -> None:
        super().__init__(optimizer, orthogonal_lr, rebase_every, seed)
        self.network = network
        self.schedule = None if warmup is None else Phase(1, schedule="one-cycle", warmup=warmup)

    @property
    def data(self) -> SpeechData:
        """The utterances.

        Raises:
            TypeError: the data are no `SpeechData`.
        """
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, SpeechData):
            raise TypeError(f"expected the data of SpeechData, got those of {type(data).__name__}")
        return data

    def setup(self, stage: str) -> None:
        """Compare the network with the data.

        Raises:
            ValueError: they have different sample rates.
        """
        del stage
        expected = self.network.front_end.sample_rate
        for split in self.data.splits.values():
            if split.sample_rate != expected:
                raise ValueError(
                    f"the front end is for {expected} Hz and the data have {split.sample_rate}: set "
                    "data.sample_rate, or front_end_options with their sample_rate"
                )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer, with its schedule if there is one.

        Raises:
            ValueError: there is a schedule, and the run has no end.
        """
        optimizer = self.make_optimizer()
        if self.schedule is None:
            return optimizer
        steps = self.trainer.estimated_stepping_batches
        if math.isinf(steps):
            raise ValueError("warmup is a share of the run: set trainer.max_epochs or trainer.max_steps")
        phase = self.schedule
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: phase.learning_rate(min(1.0, (step + 0.5) / steps))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what it takes to build the network again and to say where it comes from."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["frame_model"] = {"config": self.network.config, "weights": self.network.state_dict()}

    def validation_step(self, batch: SpeechBatch) -> None:
        """Measure the validation split."""
        self.evaluate("validation", batch)

    def test_step(self, batch: SpeechBatch) -> None:
        """Measure the test split."""
        self.evaluate("test", batch)

    @abstractmethod
    def evaluate(self, split: str, batch: SpeechBatch) -> None:
        """Log what a batch of a split adds to its metrics."""

    def frames_of(self, batch: SpeechBatch) -> Tensor:
        """How many frames of each utterance end before the padding [batch]."""
        return batch.lengths // self.network.front_end.hop_length


class FramesTask(SpeechTask):
    """A `FrameModel` that learns to say of every frame which class it is.

    The loss is the mean cross entropy over the labelled frames. Features are normalised by the training
    split's mean and variance. A frame's label is that of the sample in the middle of its hop.

    Logs the accuracy over frames, classes that are scored as one (see `Speech`) taken together, and over
    utterances where they have a class: the class other than silence with the greatest mean probability.

    Args:
        network: the network, with an output for each of the data's labels.
        augmentation: random changes of the training utterances; None for none.
        masking: hides random parts of the training features; None for nothing.
        label_smoothing: see `torch.nn.functional.cross_entropy`.

    The other arguments are `SpeechTask`'s.
    """

    monitor = ("validation/frame_accuracy", "max")
    _scored: Tensor

    def __init__(
        self,
        network: FrameModel,
        optimizer: OptimizerFactory = torch.optim.Adam,
        orthogonal_lr: float | None = None,
        rebase_every: int | None = None,
        warmup: float | None = None,
        augmentation: SpeechAugmentation | None = None,
        masking: Masking | None = None,
        label_smoothing: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(network, optimizer, orthogonal_lr, rebase_every, warmup, seed)
        self.augmentation = augmentation
        self.masking = masking
        self.label_smoothing = label_smoothing

    def setup(self, stage: str) -> None:
        """Compare the network with the data, and find out how answers are scored.

        Raises:
            ValueError: they do not fit.
        """
        super().setup(stage)
        speech = next(iter(self.data.splits.values()))
        outputs = self.network.head.out_features
        if outputs != len(speech.labels):
            raise ValueError(
                f"the network has {outputs} outputs and {speech.dataset} {len(speech.labels)} classes: set "
                f"network.output_size to {len(speech.labels)}"
            )
        self.labels = speech.labels
        self.silence = None if speech.silence is None else speech.labels.index(speech.silence)
        self.scored_as = speech.scored_as
        classes = sorted(set(speech.scored_as.values()))
        scored = torch.tensor([classes.index(speech.scored_as[label]) for label in speech.labels])
        self.register_buffer("_scored", scored, persistent=False)
        if stage == "fit" and bool((self.network.front_end.mean == 0.0).all()):
            self._normalize()

    @torch.no_grad()
    def _normalize(self) -> None:
        """Normalise the features over the training split."""
        front_end = self.network.front_end
        total = torch.zeros(2, front_end.features, dtype=torch.float64)
        count = 0
        for utterance in self.data.splits["train"].utterances:
            features, _ = front_end(torch.from_numpy(utterance.samples).unsqueeze(0))
            count += features.shape[1]
            total += torch.stack([features[0], features[0].square()]).sum(dim=1, dtype=torch.float64)
        mean, square = total / count
        front_end.normalize_(mean.float(), (square - mean.square()).clamp(min=0.0).sqrt().float())

    def training_step(self, batch: SpeechBatch) -> Tensor:
        """Loss of one batch."""
        if self.augmentation is not None:
            batch = self.augmentation(batch, self.network.front_end.sample_rate, self.silence)
        features, _ = self.network.front_end(batch.waveform)
        if self.masking is not None:
            features = self.masking(features)
        logits, _ = self.network.read(features)
        labels = self._frame_labels(batch, logits)
        loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=self.label_smoothing)
        with torch.no_grad():
            known = labels != NO_LABEL
            accuracy = (logits.argmax(dim=2) == labels)[known].float().mean()
        self.log_dict({"train/loss": loss.detach(), "train/frame_accuracy": accuracy}, prog_bar=True)
        return loss

    def evaluate(self, split: str, batch: SpeechBatch) -> None:
        """Loss and accuracies."""
        logits, _ = self.network(batch.waveform)
        labels = self._frame_labels(batch, logits)
        known = labels != NO_LABEL
        right = self._scored[logits.argmax(dim=2)] == self._scored[labels.clamp(min=0)]
        count = int(known.sum())
        loss = cross_entropy(logits.flatten(0, 1), labels.flatten())
        frames = {f"{split}/loss": loss, f"{split}/frame_accuracy": right[known].float().mean()}
        self.log_dict(frames, prog_bar=True, sync_dist=True, batch_size=count)
        whole = batch.utterance != NO_LABEL
        if bool(whole.any()):
            heard = torch.arange(logits.shape[1], device=logits.device) < self.frames_of(batch).unsqueeze(1)
            means = (logits.softmax(dim=2) * heard.unsqueeze(2)).sum(dim=1)
            if self.silence is not None:
                means[:, self.silence] = 0.0
            accuracy = (means.argmax(dim=1) == batch.utterance)[whole].float().mean()
            self.log(
                f"{split}/utterance_accuracy",
                accuracy,
                prog_bar=True,
                sync_dist=True,
                batch_size=int(whole.sum()),
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the outputs mean."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["frame_model"] |= {
            "labels": list(self.labels),
            "silence": None if self.silence is None else self.labels[self.silence],
        }

    def _frame_labels(self, batch: SpeechBatch, logits: Tensor) -> Tensor:
        """[batch, frames]; none for frames that do not end before the padding."""
        hop = self.network.front_end.hop_length
        labels = batch.labels[:, hop // 2 :: hop][:, : logits.shape[1]]
        frames = torch.arange(labels.shape[1], device=labels.device)
        return labels.where(frames < self.frames_of(batch).unsqueeze(1), NO_LABEL)


class PredictionTask(SpeechTask):
    """A `FrameModel` that learns to say what the next frame's features will be.

    The loss is the mean squared error over the features of all frames but each utterance's first, which
    nothing predicts. Features are not normalised.

    Args:
        network: the network, with an output for each of its front end's features.

    The other arguments are `SpeechTask`'s.

    Raises:
        ValueError: the network has another number of outputs, or an argument is out of range.

    Source of the task: Wisdom et al., "Full-Capacity Unitary Recurrent Neural Networks" (NeurIPS 2016),
    section 4.2.
    """

    monitor = ("validation/loss", "min")

    def __init__(
        self,
        network: FrameModel,
        optimizer: OptimizerFactory = torch.optim.Adam,
        orthogonal_lr: float | None = None,
        rebase_every: int | None = None,
        warmup: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(network, optimizer, orthogonal_lr, rebase_every, warmup, seed)
        if network.head.out_features != network.front_end.features:
            raise ValueError(
                f"predicting {network.front_end.features} features takes as many outputs, "
                f"got {network.head.out_features}: set network.output_size"
            )

    def training_step(self, batch: SpeechBatch) -> Tensor:
        """Loss of one batch."""
        loss, _ = self._loss(batch)
        self.log("train/loss", loss.detach(), prog_bar=True)
        return loss

    def evaluate(self, split: str, batch: SpeechBatch) -> None:
        """The loss."""
        loss, count = self._loss(batch)
        self.log(f"{split}/loss", loss, prog_bar=True, sync_dist=True, batch_size=count)

    def _loss(self, batch: SpeechBatch) -> tuple[Tensor, int]:
        """The mean, and over how many frames."""
        features, _ = self.network.front_end(batch.waveform)
        predicted, _ = self.network.read(features[:, :-1])
        errors = (predicted - features[:, 1:]).square().mean(dim=2)
        real = torch.arange(1, features.shape[1], device=errors.device) < self.frames_of(batch).unsqueeze(1)
        return errors[real].mean(), int(real.sum())
