"""What was said, from the probabilities of frame after frame: labels, segments, a decision on the whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FailFast

from exports.card import Card


@dataclass(frozen=True)
class Segment:
    """A stretch of frames with one label: from frame `start` up to, without, `end`."""

    label: str
    start: int
    end: int
    probability: float
    """Mean probability of the label over the frames."""


@dataclass(frozen=True)
class Decision:
    """One label for everything heard."""

    label: str
    probability: float


class Progress(BaseModel):
    """How far a transcript is, as a document can have it.

    Attributes:
        frames: how many were added.
        totals: of each class, the sum of its probabilities.
        silent: how many frames were silence.
        open: the class of the segment that has not ended, None without one.
        start: its first frame.
        sum: of its class's probabilities.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    frames: int
    totals: Annotated[list[float], FailFast()]
    silent: int
    open: int | None
    start: int
    sum: float


class Transcript:
    """Collects frames, in pieces of any size: the result does not depend on where they end.

    Args:
        card: of the model that the probabilities come from.
        progress: of a transcript to go on with.

    Attributes:
        frames: how many frames have been added.
    """

    def __init__(self, card: Card, progress: Progress | None = None) -> None:
        self.frames = 0
        self._labels = card.labels
        self._silence = None if card.silence is None else card.labels.index(card.silence)
        self._totals = np.zeros(len(card.labels))
        self._silent = 0
        self._open: int | None = None
        self._start = 0
        self._sum = 0.0
        if progress is not None:
            self.frames, self._silent = progress.frames, progress.silent
            self._totals = np.array(progress.totals)
            self._open, self._start, self._sum = progress.open, progress.start, progress.sum

    @property
    def progress(self) -> Progress:
        """How far it is."""
        totals: list[float] = self._totals.tolist()
        return Progress(
            frames=self.frames,
            totals=totals,
            silent=self._silent,
            open=self._open,
            start=self._start,
            sum=self._sum,
        )

    def add(self, probabilities: NDArray[np.float32]) -> tuple[list[str], list[float], list[Segment]]:
        """Add frames.

        Args:
            probabilities: [frames, classes].

        Returns:
            The most probable label of each frame, its probability, and the segments that these frames ended.
        """
        chosen = probabilities.argmax(axis=1)
        best = probabilities.max(axis=1).tolist()
        # one after the other: a sum in another order could round otherwise
        self._totals = np.concatenate([self._totals[None], probabilities]).sum(axis=0)
        labels, ended = [], []
        for index, probability in zip(chosen.tolist(), best, strict=True):
            if index != self._open:
                ended += self._close()
                self._open, self._start, self._sum = index, self.frames, 0.0
            self._sum += probability
            self._silent += index == self._silence
            self.frames += 1
            labels.append(self._labels[index])
        return labels, best, ended

    def finish(self) -> list[Segment]:
        """End the last segment: none, or one."""
        ended = self._close()
        self._open = None
        return ended

    def decide(self) -> Decision | None:
        """The label with the greatest mean probability, silence left out unless nothing else was heard; None
        before the first frame.

        Its probability is its share of the mean probabilities that were compared.
        """
        if not self.frames:
            return None
        shares = self._totals.copy()
        if self._silence is not None:
            if self._silent == self.frames:
                return Decision(self._labels[self._silence], float(shares[self._silence] / self.frames))
            shares[self._silence] = 0.0
        best = int(shares.argmax())
        return Decision(self._labels[best], float(shares[best] / shares.sum()))

    def _close(self) -> list[Segment]:
        if self._open is None:
            return []
        count = self.frames - self._start
        return [Segment(self._labels[self._open], self._start, self.frames, self._sum / count)]
