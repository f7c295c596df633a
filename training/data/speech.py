"""What a split of a corpus of speech is: waveforms, and what is said in every sample of them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from training.data.audio import resample
from training.data.errors import DataError
from training.data.splits import Split


@dataclass(frozen=True)
class Segment:
    """A stretch of a recording in which one thing is said.

    Attributes:
        start: its first sample.
        end: the sample after its last.
        label: what is said.
    """

    start: int
    end: int
    label: str


@dataclass(frozen=True, eq=False)
class Utterance:
    """One recording.

    Attributes:
        name: unique in its data set, such as ``7_george_3`` or ``TRAIN/DR1/FCJF0/SX37``.
        speaker: who speaks.
        samples: float32 [n] in [-1, 1], at the split's sample rate.
        segments: one after the other, in order, from sample 0 to n without gaps; none is empty.
        label: of the whole utterance, such as ``7``; None where it has none.

    Raises:
        ValueError: the segments are not as described.
    """

    name: str
    speaker: str
    samples: npt.NDArray[np.float32]
    segments: tuple[Segment, ...]
    label: str | None

    def __post_init__(self) -> None:
        bounds = [0, *(segment.end for segment in self.segments)]
        starts = [segment.start for segment in self.segments]
        if (
            starts != bounds[:-1]
            or bounds[-1] != len(self.samples)
            or any(a >= b for a, b in pairwise(bounds))
        ):
            raise ValueError(
                f"{self.name}: the segments do not cover its {len(self.samples):,} samples in order"
            )

    def frame_labels(self, hop_length: int) -> list[str]:
        """What is said in each frame, for a classifier of frames.

        Args:
            hop_length: samples from one frame to the next, at least 1.

        Returns:
            n // hop_length labels; that of frame k is the label of its middle sample,
            ``k * hop_length + hop_length // 2``.
        """
        if hop_length < 1:
            raise ValueError(f"hop_length: found {hop_length}, expected at least 1")
        middles = np.arange(len(self.samples) // hop_length) * hop_length + hop_length // 2
        indices = np.searchsorted([segment.end for segment in self.segments], middles, side="right")
        return [self.segments[index].label for index in indices]


@dataclass(frozen=True, eq=False)
class Speech:
    """One split of a corpus of labelled speech.

    Attributes:
        dataset: name of the data set, as given to ``load_speech``.
        split: which of its parts this is.
        sample_rate: samples per second of every utterance.
        labels: the classes that a model is trained on, in the order of its outputs.
        silence: the label that means that nothing is said; None where no label does.
        scored_as: for each label the class that it counts as when predictions are scored.
        utterances: in an order that never changes.
        checksums: SHA-256 in hexadecimal of the sources, by name, for provenance.
    """

    dataset: str
    split: Split
    sample_rate: int
    labels: tuple[str, ...]
    silence: str | None
    scored_as: Mapping[str, str]
    utterances: tuple[Utterance, ...]
    checksums: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.utterances)


def resampled(speech: Speech, sample_rate: int) -> Speech:
    """The same split at another sample rate; the segments' limits move with the samples.

    Args:
        speech: the split.
        sample_rate: samples per second, 1,000 to 192,000.

    Raises:
        DataError: the sample rate is outside that range.
    """
    if not 1_000 <= sample_rate <= 192_000:
        raise DataError(f"sample rate: found {sample_rate:,}, expected 1,000 to 192,000 per second")
    if sample_rate == speech.sample_rate:
        return speech
    utterances = tuple(_resampled(each, speech.sample_rate, sample_rate) for each in speech.utterances)
    return replace(speech, sample_rate=sample_rate, utterances=utterances)


def _resampled(utterance: Utterance, old: int, new: int) -> Utterance:
    samples = resample(utterance.samples, old, new)
    ends = [rescale(segment.end, old, new) for segment in utterance.segments]
    ends[-1:] = [len(samples)] if ends else []
    segments = []
    start = 0
    for end, segment in zip(ends, utterance.segments, strict=True):
        end = min(end, len(samples))
        if end > start:  # a segment that is shorter than a new sample may vanish
            segments.append(Segment(start, end, segment.label))
            start = end
    return replace(utterance, samples=samples, segments=tuple(segments))


def rescale(position: int, old: int, new: int) -> int:
    """A position in samples at ``old`` Hz as one at ``new`` Hz, rounded to the nearest."""
    return (2 * position * new + old) // (2 * old)


def refuse_unknown(options: Mapping[str, Any], known: Collection[str], dataset: str) -> None:
    """Check the names of a data set's options.

    Raises:
        DataError: one is not known.
    """
    for name in options:
        if name not in known:
            listing = f"known: {', '.join(known)}" if known else "it has none"
            raise DataError(f"{dataset} has no option {name!r}; {listing}")
