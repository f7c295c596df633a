"""Speech in batches."""

from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DistributedSampler

from training.data import DataError, Segment, Speech, Utterance, load_speech
from training.speech import NO_LABEL, Buckets, SpeechBatch, SpeechData, Utterances


def batches_of(lengths: list[int], size: int, seed: int, epoch: int, world: int) -> list[list[list[int]]]:
    """The batches of every process."""
    samplers = [Buckets(lengths, size, seed, world, rank) for rank in range(world)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    return [list(sampler) for sampler in samplers]


@given(
    lengths=st.lists(st.integers(1, 1_000), min_size=3, max_size=300),
    size=st.integers(2, 40),
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 1_000),
    world=st.integers(1, 3),
)
def test_every_utterance_is_in_one_batch_of_one_process(
    lengths: list[int], size: int, seed: int, epoch: int, world: int
) -> None:
    processes = batches_of(lengths, size, seed, epoch, world)
    numbers = [number for batches in processes for batch in batches for number in batch]
    assert sorted(numbers) == list(range(len(lengths)))
    assert {len(batches) for batches in processes} == {len(Buckets(lengths, size, 0, world, 0))}
    sizes = {len(batch) for batches in processes for batch in batches}
    assert 1 <= min(sizes) <= max(sizes) <= min(size, min(sizes) + 1)
    assert batches_of(lengths, size, seed, epoch, world) == processes


def test_the_order_is_another_one_for_another_seed_or_epoch() -> None:
    lengths = np.random.default_rng(0).integers(5_000, 60_000, 500).tolist()
    drawn = [str(batches_of(lengths, 16, seed, epoch, 1)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(drawn)) == 4


def test_little_is_padding() -> None:
    lengths = np.random.default_rng(0).integers(5_000, 60_000, 3_000)
    (batches,) = batches_of(lengths.tolist(), 16, 0, 0, 1)
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    assert padded < 1.1 * lengths.sum()  # in random order 1.8
    # and the long ones do not come at the end
    longest = [int(lengths[batch].max()) for batch in batches]
    assert abs(np.mean(longest[:94]) - np.mean(longest[94:])) < 5_000


def test_lightning_does_not_share_out_what_is_shared_out() -> None:
    """It wraps a sampler of another kind in one of its own, and a process would see its share's share."""
    assert isinstance(Buckets([1, 2], 1, 0, 1, 0), DistributedSampler)


def test_the_epoch_may_be_said_after_the_iterator_is_made() -> None:
    """As Lightning does where a run is resumed."""
    lengths = list(range(1_000, 1_100))
    resumed = Buckets(lengths, 4, 0, 1, 0)
    batches = iter(resumed)
    resumed.set_epoch(3)
    assert [list(batches)] == batches_of(lengths, 4, 0, 3, 1)


def small() -> Speech:
    def utterance(name: str, label: str | None, *segments: tuple[int, int, str]) -> Utterance:
        samples = np.arange(segments[-1][1], dtype=np.float32) / 10
        return Utterance(name, "", samples, tuple(Segment(*segment) for segment in segments), label)

    utterances = (
        utterance("long", "b", (0, 2, "s"), (2, 5, "b"), (5, 6, "s")),
        utterance("short", None, (0, 1, "a"), (1, 3, "s")),
    )
    scored = {"a": "a", "b": "b", "s": "s"}
    return Speech("small", "train", 8_000, ("a", "b", "s"), "s", scored, utterances, {})


def test_a_batch_holds_waveforms_and_a_class_a_sample() -> None:
    utterances = Utterances(small())
    assert utterances.lengths == [6, 3]
    batch = utterances[[1, 0]]
    torch.testing.assert_close(
        batch.waveform, torch.tensor([[0.0, 0.1, 0.2, 0.0, 0.0, 0.0], [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]])
    )
    assert batch.lengths.tolist() == [3, 6]
    assert batch.labels.tolist() == [[0, 2, 2, *[NO_LABEL] * 3], [2, 2, 1, 1, 1, 2]]
    assert batch.utterance.tolist() == [NO_LABEL, 1]
    dtypes = [tensor.dtype for tensor in (batch.lengths, batch.labels, batch.utterance)]
    assert (batch.waveform.dtype, dtypes) == (torch.float32, [torch.int64] * 3)


def test_a_batch_moves_to_a_device() -> None:
    moved = Utterances(small())[[0, 1]].to("meta")
    tensors = (moved.waveform, moved.lengths, moved.labels, moved.utterance)
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_labels_are_those_of_the_frames(small_timit: Path) -> None:
    speech = load_speech("synthetic-timit", "validation", small_timit)
    batch = Utterances(speech)[[3, 5]]
    for row, number in enumerate((3, 5)):
        middles = batch.labels[row, 80::160][: int(batch.lengths[row]) // 160]
        wanted = speech.utterances[number].frame_labels(160)
        assert [speech.labels[index] for index in middles] == wanted


@pytest.mark.parametrize("loader", ["val_dataloader", "test_dataloader"])
def test_what_is_measured_comes_whole_the_longest_first(loader: str, small_timit: Path) -> None:
    data = SpeechData("synthetic-timit", small_timit, batch_size=5)
    data.setup("fit")
    data.setup("test")
    split = data.splits["validation" if loader == "val_dataloader" else "test"]
    batches: list[SpeechBatch] = list(getattr(data, loader)())
    assert [len(batch.lengths) for batch in batches] == [4, 4, 4, 4]
    lengths = torch.cat([batch.lengths for batch in batches]).tolist()
    assert lengths == sorted((len(each.samples) for each in split.utterances), reverse=True)


def test_training_batches_are_shuffled_by_seed_and_epoch(small_timit: Path) -> None:
    def lengths(seed: int, epoch: int) -> list[list[int]]:
        data = SpeechData("synthetic-timit", small_timit, batch_size=5, seed=seed)
        data.prepare_data()
        data.setup("fit")
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        return [batch.lengths.tolist() for batch in loader]

    first = lengths(1, 0)
    assert first == lengths(1, 0)
    assert first != lengths(1, 1)
    assert first != lengths(2, 0)
    assert len(first) == 5
    assert Counter(chain.from_iterable(first)) == Counter(chain.from_iterable(lengths(2, 3)))


def test_only_what_is_needed_is_read_and_provenance_says_what(small_timit: Path) -> None:
    data = SpeechData("synthetic-timit", small_timit, sample_rate=8_000)
    assert data.provenance() == {"dataset": "synthetic-timit", "options": {}, "sha256": {}}
    data.setup("fit")
    assert list(data.splits) == ["train", "validation"]
    assert {split.sample_rate for split in data.splits.values()} == {8_000}
    train, validation = (
        load_speech("synthetic-timit", split, small_timit).checksums for split in ("train", "validation")
    )
    assert data.provenance()["sha256"] == {**train, **validation}
    data = SpeechData("synthetic-timit", small_timit)
    data.setup("validate")
    assert list(data.splits) == ["validation"]
    data.setup("test")
    assert list(data.splits) == ["validation", "test"]


def test_options_go_to_the_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOMENTUM_DATA", str(tmp_path))
    data = SpeechData("timit", options={"speakers": ["george"]})
    assert data.directory == tmp_path
    assert data.provenance()["options"] == {"speakers": ["george"]}
    with pytest.raises(DataError, match="timit has no option 'speakers'"):
        data.prepare_data()
    with pytest.raises(DataError, match="no data set is named 'mnist'; known: fsdd, timit"):
        SpeechData("mnist").prepare_data()
