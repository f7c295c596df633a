"""Augmentation changes how something is said, not what."""

import math
from typing import Any

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from training.speech import NO_LABEL, SpeechBatch
from training.speech_augmentation import TONES, Masking, SpeechAugmentation

RATE = 1_000
STILL: dict[str, Any] = {
    "pause": 0.0,
    "speed": 0.0,
    "gain": 0.0,
    "equalizer": 0.0,
    "noise": (-300.0, -300.0),
    "chained": 0.0,
}
STEP = 0.1  # of the waveform for each label


def batch(count: int = 16) -> SpeechBatch:
    """Utterances of 5 segments whose samples are their label times `STEP`; label 0 is silence."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for _ in range(count):
        lengths = torch.randint(20, 200, (5,), generator=generator)
        rows.append(torch.randint(0, 6, (5,), generator=generator).repeat_interleave(lengths))
    return SpeechBatch(
        pad_sequence([STEP * row for row in rows], batch_first=True),
        torch.tensor([len(row) for row in rows]),
        pad_sequence(rows, batch_first=True, padding_value=NO_LABEL),
        torch.arange(count),
    )


def change(given: SpeechBatch, silence: int | None = 0, seed: int = 0, **options: Any) -> SpeechBatch:
    torch.manual_seed(seed)
    changed: SpeechBatch = SpeechAugmentation(**(STILL | options))(given, RATE, silence)
    return changed


def heard(changed: SpeechBatch) -> torch.Tensor:
    """Which samples are not padding."""
    return torch.arange(changed.labels.shape[1]) < changed.lengths.unsqueeze(1)


def same_as_labels(changed: SpeechBatch) -> None:
    """Every sample is where its label is: where one class goes over into the next, to within a sample."""
    labels = changed.labels
    found = (changed.waveform / STEP).round()
    edges = labels != torch.cat([labels[:, 1:], labels[:, -1:]], dim=1)
    assert bool(((found == labels) | edges | (labels == NO_LABEL)).all())


def test_nothing_asked_is_nothing_changed() -> None:
    changed = change(batch())
    torch.testing.assert_close(changed.waveform, batch().waveform, rtol=0, atol=1e-6)
    for name in ("lengths", "labels", "utterance"):
        assert torch.equal(getattr(changed, name), getattr(batch(), name))


@pytest.mark.parametrize(
    "options",
    [
        {"speed": 0.1},
        {"pause": 0.2},
        {"pause": 0.2, "speed": 0.1},
        {"pause": 0.2, "speed": 0.1, "chained": 1.0},
    ],
    ids=str,
)
def test_labels_move_with_the_waveform(options: dict[str, Any]) -> None:
    given = batch()
    for seed in range(5):
        changed = change(given, seed=seed, **options)
        assert changed.waveform.shape == changed.labels.shape
        same_as_labels(changed)
        assert bool((changed.labels[~heard(changed)] == NO_LABEL).all())
        assert int(changed.lengths.max()) == changed.labels.shape[1]
        if "chained" not in options:
            assert bool((changed.labels[heard(changed)] >= 0).all())
            limits = given.lengths / 1.1 - 1, given.lengths / 0.9 + 2 * 0.2 * RATE
            assert bool(((changed.lengths >= limits[0]) & (changed.lengths <= limits[1])).all())


def test_speeds_and_pauses_are_each_utterances_own() -> None:
    given = batch(64)
    faster = given.lengths / change(given, speed=0.1).lengths
    assert 0.89 < faster.min() < 0.93
    assert 1.07 < faster.max() < 1.11
    paused = change(given, pause=0.2)
    longer = paused.lengths - given.lengths
    assert 0 <= longer.min() < 100
    assert 300 < longer.max() <= 400
    # before and after
    for row in range(4):
        start = int((paused.labels[row] != 0).nonzero()[0])
        own = int((given.labels[row] != 0).nonzero()[0])
        length = int(given.lengths[row])
        assert torch.equal(paused.labels[row, start - own : start - own + length], given.labels[row, :length])
        assert not paused.labels[row, : start - own].any()
        assert not paused.labels[row, start - own + length : int(paused.lengths[row])].any()


def test_there_are_no_pauses_without_a_label_for_them() -> None:
    given = batch()
    assert torch.equal(change(given, silence=None, pause=0.2).labels, given.labels)
    assert bool((change(given, silence=3, pause=0.2).labels[:, :1] == 3).any())


def test_chained_utterances_follow_each_other() -> None:
    given = batch()
    changed = change(given, chained=1.0)
    width = given.labels.shape[1]
    assert torch.equal(changed.labels[:, :width], given.labels)
    followers = {tuple(row) for row in changed.labels[:, width:].tolist()}
    assert followers == {tuple(row) for row in given.labels.tolist()}
    assert not torch.equal(changed.labels[:, width:], given.labels)
    chained = [change(given, seed=seed, chained=0.3).labels.shape[1] > width for seed in range(200)]
    assert 0.2 < sum(chained) / 200 < 0.4


def test_loudness_changes_within_its_limits() -> None:
    given = batch(64)
    quiet = SpeechBatch(given.waveform / 10, given.lengths, given.labels, given.utterance)
    changed = change(quiet, gain=12.0)
    decibels = 20.0 * (changed.waveform.norm(dim=1) / quiet.waveform.norm(dim=1)).log10()
    assert -12.01 < decibels.min() < -9.0
    assert 9.0 < decibels.max() < 12.01
    # the same all along an utterance
    torch.testing.assert_close(
        changed.waveform, quiet.waveform * 10.0 ** (decibels.unsqueeze(1) / 20.0), rtol=0, atol=1e-6
    )
    assert change(given, gain=60.0).waveform.abs().max() == 1.0


def test_tones_change_within_their_limits_and_what_lies_between_in_between() -> None:
    impulses = torch.zeros(64, 2_001)
    impulses[:, 1_000] = 0.1
    lengths = torch.full((64,), 2_001)
    given = SpeechBatch(impulses, lengths, torch.zeros(64, 2_001, dtype=torch.long), lengths)
    spectrum = torch.fft.rfft(10.0 * change(given, equalizer=6.0).waveform)
    decibels = 20.0 * spectrum.abs().log10()
    assert -6.01 < decibels.min() < -5.5
    assert 5.5 < decibels.max() < 6.01
    tones = decibels[:, :: 1_000 // (TONES - 1)]
    assert tones.shape[1] == TONES
    middles = decibels[:, 500 // (TONES - 1) :: 1_000 // (TONES - 1)]
    torch.testing.assert_close(middles, (tones[:, 1:] + tones[:, :-1]) / 2, rtol=0, atol=1e-2)


def test_noise_is_as_loud_as_asked_relative_to_the_utterance() -> None:
    given = batch(64)
    changed = change(given, noise=(-40.0, -20.0))
    noise = changed.waveform - given.waveform
    signal = (given.waveform.square().sum(dim=1) / given.lengths).sqrt()
    decibels = 20.0 * (noise.std(dim=1) / signal).log10()
    assert -40.5 < decibels.min() < -37.0
    assert -23.0 < decibels.max() < -19.5


def test_a_seed_decides_all() -> None:
    torch.manual_seed(0)
    first, second = (SpeechAugmentation()(batch(), RATE, 0) for _ in range(2))
    torch.manual_seed(0)
    again = SpeechAugmentation()(batch(), RATE, 0)
    assert torch.equal(first.waveform, again.waveform)
    assert torch.equal(first.labels, again.labels)
    assert first.waveform.shape != second.waveform.shape
    assert first.waveform.abs().max() <= 1.0


def test_masking_hides_up_to_so_many_bands_and_frames_next_to_each_other() -> None:
    torch.manual_seed(0)
    features = 1.0 + torch.rand(400, 20, 10)
    masked = Masking(bands=3, frames=5)(features)
    hidden = masked == 0.0
    assert torch.equal(masked[~hidden], features[~hidden])
    bands, frames = hidden.all(dim=1), hidden.all(dim=2)
    assert torch.equal(hidden, bands.unsqueeze(1) | frames.unsqueeze(2))
    for stretch, longest in ((bands, 3), (frames, 5)):
        counts = stretch.sum(dim=1)
        assert set(counts.tolist()) == set(range(longest + 1))
        begins = (stretch & ~torch.nn.functional.pad(stretch, (1, -1))).sum(dim=1)
        assert begins.max() == 1
        # every place has its turn, the first and the last too
        assert bool(stretch.any(dim=0).all())


def test_masking_may_hide_all_there_is_and_nothing() -> None:
    torch.manual_seed(0)
    features = torch.ones(100, 2, 4)
    counts = Masking(bands=0, frames=9)(features)[:, :, 0].sum(dim=1)
    assert set(counts.tolist()) == {0.0, 1.0, 2.0}
    assert torch.equal(Masking(bands=0, frames=0)(features), features)


@pytest.mark.parametrize(
    "wrong", [{"speed": 1.5}, {"pause": -1.0}, {"chained": 1.1}, {"gain": math.nan}], ids=str
)
def test_numbers_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SpeechAugmentation(**wrong)
