"""What was heard in a recording, as JSON, as CSV, or as a TextGrid for Praat."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from service.frames.transcript import Decision, Segment

_ROWS = 1000  # frames turned into text at a time: orjson lets no other thread run meanwhile


@dataclass(frozen=True)
class Heard:
    """What a model heard in one recording.

    Attributes:
        classes: the model's labels.
        sample_rate: of the model, Hz.
        hop_length: samples a frame.
        samples: how many the recording has at the model's rate, those after the last whole frame included.
        probabilities: [frames, classes].
        labels: the most probable one of each frame.
        segments: from the first frame to the last without gaps; their times are numbers of frames.
        utterance: the label of the whole.
    """

    classes: list[str]
    sample_rate: int
    hop_length: int
    samples: int
    probabilities: NDArray[np.float32]
    labels: list[str]
    segments: list[Segment]
    utterance: Decision

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.samples / self.sample_rate

    def seconds(self, frame: int) -> float:
        """When a frame starts, which is when the one before it ends."""
        return frame * self.hop_length / self.sample_rate


def to_json(heard: Heard, more: Mapping[str, Any]) -> bytes:
    """The answer that /v1/frames documents; `more` are further fields of it."""
    segments = [
        {
            "label": segment.label,
            "start": heard.seconds(segment.start),
            "end": heard.seconds(segment.end),
            "probability": segment.probability,
        }
        for segment in heard.segments
    ]
    answer = {
        "utterance": {"label": heard.utterance.label, "probability": heard.utterance.probability},
        "labels": heard.labels,
        "probabilities": orjson.Fragment(b"[" + b",".join(_texts(heard.probabilities)) + b"]"),
        "classes": heard.classes,
        "hop_seconds": heard.seconds(1),
        "segments": segments,
        "duration": heard.duration,
    }
    return orjson.dumps(answer | dict(more))


def to_csv(heard: Heard) -> bytes:
    """A table as RFC 4180 has it, in UTF-8, of a row a frame under one row of names.

    The columns are start and end (seconds), label, the label's probability, and for each class its
    probability, named "p_" and the class.
    """
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(["start", "end", "label", "probability", *(f"p_{name}" for name in heard.classes)])
    rows = (row for piece in _texts(heard.probabilities) for row in piece.decode()[1:-1].split("],["))
    chosen = heard.probabilities.argmax(axis=1).tolist()
    for frame, (label, best, row) in enumerate(zip(heard.labels, chosen, rows, strict=True)):
        numbers = row.split(",")
        table.writerow([heard.seconds(frame), heard.seconds(frame + 1), label, numbers[best], *numbers])
    return text.getvalue().encode()


def to_textgrid(heard: Heard) -> bytes:
    """A TextGrid in Praat's long text format, in UTF-8: one interval tier, `labels`, of the segments.

    It covers the whole recording; the samples after the last frame, if any, are an interval without a label.
    """
    intervals = [
        (heard.seconds(segment.start), heard.seconds(segment.end), segment.label)
        for segment in heard.segments
    ]
    if intervals[-1][1] < heard.duration:
        intervals.append((intervals[-1][1], heard.duration, ""))
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {heard.duration}",
        "tiers? <exists>",
        "size = 1",
        "item []:",
        "    item [1]:",
        '        class = "IntervalTier"',
        '        name = "labels"',
        "        xmin = 0",
        f"        xmax = {heard.duration}",
        f"        intervals: size = {len(intervals)}",
    ]
    for number, (start, end, label) in enumerate(intervals, 1):
        quoted = label.replace('"', '""')
        lines += [
            f"        intervals [{number}]:",
            f"            xmin = {start}",
            f"            xmax = {end}",
            f'            text = "{quoted}"',
        ]
    return "\n".join([*lines, ""]).encode()


def _texts(probabilities: NDArray[np.float32]) -> Iterator[bytes]:
    """The rows as JSON, [...],[...], in pieces."""
    for start in range(0, len(probabilities), _ROWS):
        piece = np.ascontiguousarray(probabilities[start : start + _ROWS])
        yield orjson.dumps(piece, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
