"""Speech in batches of utterances of about the same length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from training.data import Speech, Split, data_directory, load_speech
from training.task import Data

NO_LABEL = -100  # what torch's cross entropy leaves out
POOL = 16  # batches that are shuffled together before they are sorted by length


@dataclass(frozen=True)
class SpeechBatch:
    """Utterances, padded with zeros.

    Attributes:
        waveform: float32 [batch, samples].
        lengths: int64 [batch], samples of each that are not padding.
        labels: int64 [batch, samples], a class a sample; `NO_LABEL` in the padding.
        utterance: int64 [batch], the class of the whole; `NO_LABEL` where there is none.
    """

    waveform: Tensor
    lengths: Tensor
    labels: Tensor
    utterance: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> SpeechBatch:
        """The same on another device; Lightning calls it."""
        tensors = (self.waveform, self.lengths, self.labels, self.utterance)
        return SpeechBatch(*(tensor.to(device, non_blocking=non_blocking) for tensor in tensors))


class Buckets(DistributedSampler[Any]):
    """Shuffled batches of utterances of about the same length, so that little is padding.

    The order depends on the seed and on the epoch's number alone, and every process gets as many batches.

    Args:
        lengths: of the utterances.
        batch_size: utterances a batch.
        seed: of the shuffling.
        world, rank: how many processes there are, and which this is.
    """

    # For Lightning: a DistributedSampler, or each process's share would be dealt out once more; and the order
    # is drawn with the first batch, as a resumed run makes the iterator before it says which epoch it is

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, world: int, rank: int) -> None:
        super().__init__(lengths, world, rank, seed=seed)  # type: ignore[arg-type]
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.lengths) // (self.batch_size * self.num_replicas))

    def __iter__(self) -> Iterator[list[int]]:
        generator = np.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(len(self.lengths))
        count = len(self) * self.num_replicas
        edges = np.linspace(0, len(order), count + 1).astype(int)
        for first in range(0, count, POOL):
            pool = slice(edges[first], edges[min(first + POOL, count)])
            order[pool] = order[pool][np.argsort(self.lengths[order[pool]], kind="stable")]
        for number in generator.permutation(count)[self.rank :: self.num_replicas]:
            yield order[edges[number] : edges[number + 1]].tolist()


class Utterances(Dataset[SpeechBatch]):
    """The batches of a split, by the numbers of their utterances."""

    def __init__(self, speech: Speech) -> None:
        self.speech = speech
        self._classes = {label: number for number, label in enumerate(speech.labels)}

    @property
    def lengths(self) -> list[int]:
        """Samples of each utterance."""
        return [len(utterance.samples) for utterance in self.speech.utterances]

    def __getitem__(self, numbers: list[int]) -> SpeechBatch:
        utterances = [self.speech.utterances[number] for number in numbers]
        labels = []
        for utterance in utterances:
            counts = torch.tensor([segment.end - segment.start for segment in utterance.segments])
            classes = torch.tensor([self._classes[segment.label] for segment in utterance.segments])
            labels.append(classes.repeat_interleave(counts))
        return SpeechBatch(
            pad_sequence([torch.from_numpy(utterance.samples) for utterance in utterances], batch_first=True),
            torch.tensor([len(utterance.samples) for utterance in utterances]),
            pad_sequence(labels, batch_first=True, padding_value=NO_LABEL),
            torch.tensor([self._classes.get(utterance.label or "", NO_LABEL) for utterance in utterances]),
        )


class SpeechData(Data):
    """Utterances of a registered data set, as `SpeechBatch`.

    Args:
        dataset: its name ("fsdd", "timit", "synthetic-timit").
        data: the data directory; default `MOMENTUM_DATA`, else ~/.cache/momentum-serve.
        sample_rate: what the waveforms are resampled to, Hz; None for the data set's own.
        options: what the data set can be asked, such as `{"leave_out": "george"}`.
        batch_size: utterances a training step and process.
        seed: seed of the shuffling, which depends on it and on the epoch's number alone.
    """

    def __init__(
        self,
        dataset: str,
        data: Path | None = None,
        sample_rate: int | None = None,
        options: dict[str, Any] | None = None,
        batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.dataset = dataset
        self.directory = data_directory(data)
        self.sample_rate = sample_rate
        self.options = options or {}
        self.batch_size = batch_size
        self.seed = seed
        self.splits: dict[Split, Speech] = {}

    def prepare_data(self) -> None:
        """Download or make what is missing, on one process."""
        self._load("train")

    def setup(self, stage: str) -> None:
        """Read the splits that `stage` needs."""
        needed = {"fit": ("train", "validation"), "validate": ("validation",)}.get(stage, ("test",))
        for split in get_args(Split):
            if split in needed and split not in self.splits:
                self.splits[split] = self._load(split)

    def train_dataloader(self) -> DataLoader[SpeechBatch]:
        """Shuffled by seed and epoch alone, so that a resumed run sees the order it would have seen."""
        utterances = Utterances(self.splits["train"])
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        sampler = Buckets(utterances.lengths, self.batch_size, self.seed, world, rank)
        return DataLoader(utterances, batch_size=None, sampler=sampler)

    def val_dataloader(self) -> DataLoader[SpeechBatch]:
        """The validation split, the longest first."""
        return self._in_order("validation")

    def test_dataloader(self) -> DataLoader[SpeechBatch]:
        """The test split, the longest first."""
        return self._in_order("test")

    def provenance(self) -> dict[str, Any]:
        """Which data this is: name, options, and the SHA-256 of its files."""
        checksums = {name: value for split in self.splits.values() for name, value in split.checksums.items()}
        return {"dataset": self.dataset, "options": self.options, "sha256": checksums}

    def _load(self, split: Split) -> Speech:
        return load_speech(
            self.dataset, split, self.directory, sample_rate=self.sample_rate, options=self.options
        )

    def _in_order(self, split: Split) -> DataLoader[SpeechBatch]:
        utterances = Utterances(self.splits[split])
        order = np.argsort([-length for length in utterances.lengths], kind="stable")
        batches = [part.tolist() for part in np.array_split(order, -(-len(order) // self.batch_size))]
        return DataLoader(utterances, batch_size=None, sampler=batches)
