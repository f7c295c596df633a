"""What is asked, and what onnxruntime alone answers to it, computed before the load begins."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from benchmarks.serving.payloads import Sample, samples
from benchmarks.soak.artifacts import Artifact, variants
from benchmarks.soak.tally import ViolationError

Floats = NDArray[np.float32]

_AUDIO = Path("docs/audio/digits.wav")
_RECORDINGS = 8
_SECONDS = (0.6, 2.5)  # of a recording, from and to
_TOLERANCE = 1e-5  # of a probability, where a card promises no more


@dataclass(frozen=True, eq=False)
class Recording:
    """Speech, as samples of 16 bits at the model's rate."""

    samples: NDArray[np.int16]

    @property
    def waveform(self) -> Floats:
        """[samples] in [-1, 1]."""
        return self.samples.astype(np.float32) / np.float32(32768)


class Oracle:
    """
    Args:
        store: holds the models `digits` and `frames`.

    Attributes:
        artifacts: by model, the variant for even versions and the one for odd ones.
        samples: digits.
        recordings: speech.
        sample_rate: of the recordings, Hz.
        versions: by model, all that were ever put into the served store whole.
    """

    def __init__(self, store: Path) -> None:
        self.artifacts = {name: variants(store, name) for name in ("digits", "frames")}
        self.versions: dict[str, set[int]] = defaultdict(set)
        self.samples = samples()
        self.sample_rate: int = self._card("frames").sample_rate or 0
        self.recordings = _recordings(self.sample_rate)
        self._pixels = [self._digits(artifact, _pixels) for artifact in self.artifacts["digits"]]
        self._pictures = [self._digits(artifact, _seen) for artifact in self.artifacts["digits"]]
        self._frames = [self._hear(artifact) for artifact in self.artifacts["frames"]]

    def _card(self, name: str) -> Any:
        return self.artifacts[name][1].card

    def _digits(self, artifact: Artifact, of: Callable[[Sample], Floats]) -> list[tuple[Floats, Floats]]:
        """Of each sample the probabilities [10] and the trace [784, 10]."""
        runner = artifact.runner()
        results = [runner.run(of(sample)[None]) for sample in self.samples]
        return [(probabilities[0], trace[0]) for probabilities, trace, _ in results]

    def _hear(self, artifact: Artifact) -> list[Floats]:
        """Of each recording the probabilities [frames, classes]."""
        runner = artifact.runner()
        results = [runner.run(recording.waveform[None]) for recording in self.recordings]
        return [probabilities[0, : frames[0]] for probabilities, frames, _ in results]

    def check_digits(
        self,
        version: Any,
        numbers: list[int],
        answered: Any,
        *,
        picture: bool = False,
        streamed: bool = False,
    ) -> None:
        """Compare probabilities of samples with what that version must say.

        Raises:
            ViolationError
        """
        known = (self._pictures if picture else self._pixels)[self._variant("digits", version)]
        expected = np.stack([known[number][0] for number in numbers])
        self._compare("digits", version, expected, answered, streamed)

    def check_trace(self, version: Any, numbers: list[int], answered: Any) -> None:
        """Compare traces of samples with what that version must say.

        Raises:
            ViolationError
        """
        known = self._pixels[self._variant("digits", version)]
        self._compare("digits", version, np.stack([known[number][1] for number in numbers]), answered, False)

    def check_frames(self, version: Any, number: int, answered: Any, *, streamed: bool = False) -> None:
        """Compare all frames of a recording with what that version must say.

        Raises:
            ViolationError
        """
        expected = self._frames[self._variant("frames", version)][number]
        self._compare("frames", version, expected, answered, streamed)

    def label(self, index: int) -> str:
        """The name of a class of the frames model."""
        label: str = self._card("frames").labels[index]
        return label

    def _variant(self, name: str, version: Any) -> int:
        if not (isinstance(version, str) and version.isdecimal() and int(version) in self.versions[name]):
            raise ViolationError(f"the answer is said to be of {name} version {version!r}, which never was")
        return int(version) % 2

    def _compare(self, name: str, version: Any, expected: Floats, answered: Any, streamed: bool) -> None:
        found = np.asarray(answered, np.float32)
        if found.shape != expected.shape:
            raise ViolationError(f"the answer has the shape {found.shape}; expected {expected.shape}")
        exactness = self._card(name).exactness
        promised = {exactness.batched, exactness.padded, *([exactness.streamed] if streamed else [])}
        exact = promised == {"bitwise"}
        difference = float(np.abs(found - expected).max())
        if not difference <= (0.0 if exact else _TOLERANCE):
            raise ViolationError(
                f"{name} version {version} differs from onnxruntime alone by {difference:.3g}; its card "
                f"promises {'the same bits' if exact else 'the same up to rounding'}"
            )


def _pixels(sample: Sample) -> Floats:
    return sample.pixels


def _seen(sample: Sample) -> Floats:
    return sample.seen.astype(np.float32)


def _recordings(rate: int) -> list[Recording]:
    """Pieces of a recording, from random places."""
    speech, found = soundfile.read(_AUDIO, dtype="int16")
    if found != rate:
        raise ValueError(f"{_AUDIO} has {found} Hz, the model hears {rate}")
    generator = np.random.default_rng(0)
    pieces = []
    for _ in range(_RECORDINGS):
        length = int(rate * generator.uniform(*_SECONDS))
        start = int(generator.integers(0, len(speech) - length))
        pieces.append(Recording(speech[start : start + length]))
    return pieces
