"""Each format says the same of a recording, whatever its labels are, to readers that others wrote."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from praatio import textgrid
from praatio.data_classes.interval_tier import IntervalTier

from service.frames.formats import Heard, to_csv, to_json, to_textgrid
from service.frames.transcript import Decision, Segment

ODD_LABELS = [
    '"', '""', 'a "b" c', "a,b", "a\nb", "", "ʃ", "日本", "😀", "\\ae", 'text = "5"', "<exists>", "! no",
    "xmin = 3", "=1+1", "'", "[", "],[", "]", "start", "p_start", "-", "0.5", "null", "a;b", "a b",
]  # fmt: skip
LABELS = st.sampled_from(ODD_LABELS) | st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=8)


def heard(
    classes: list[str],
    runs: list[tuple[int, int]],
    rest: int = 0,
    sample_rate: int = 8000,
    hop_length: int = 80,
) -> Heard:
    """What was heard if `runs` are indexes of classes and how many frames each lasts."""
    chosen = np.repeat([index for index, _ in runs], [count for _, count in runs])
    generator = np.random.default_rng(len(chosen))
    probabilities = generator.uniform(1e-9, 0.5, (len(chosen), len(classes))).astype(np.float32)
    probabilities[np.arange(len(chosen)), chosen] += np.float32(0.5)
    ends = [0, *itertools.accumulate(count for _, count in runs)]
    segments = [
        Segment(classes[index], start, end, 0.75)
        for (index, _), (start, end) in zip(runs, itertools.pairwise(ends), strict=True)
    ]
    return Heard(
        classes=classes,
        sample_rate=sample_rate,
        hop_length=hop_length,
        samples=ends[-1] * hop_length + rest,
        probabilities=probabilities,
        labels=[classes[index] for index in chosen],
        segments=segments,
        utterance=Decision(classes[0], 0.5),
    )


@st.composite
def anything(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Heard:
    """Any recording with any labels."""
    classes = draw(st.lists(LABELS, min_size=2, max_size=6, unique=True))
    runs = draw(
        st.lists(st.tuples(st.integers(0, len(classes) - 1), st.integers(1, 5)), min_size=1, max_size=8)
    )
    runs = [run for before, run in zip([(-1, 0), *runs], runs, strict=False) if before[0] != run[0]]
    rate, hop = draw(
        st.sampled_from([(8000, 80), (16_000, 160), (44_100, 441), (22_050, 256), (11_025, 100)])
    )
    return heard(classes, runs, draw(st.integers(0, hop - 1)), rate, hop)


ONE = heard(["quiet", 'l"oud'], [(0, 2), (1, 1)], rest=13)


def test_json() -> None:
    document = json.loads(to_json(ONE, {"model": "frames"}))
    assert document == {
        "utterance": {"label": "quiet", "probability": 0.5},
        "labels": ["quiet", "quiet", 'l"oud'],
        "probabilities": pytest.approx(ONE.probabilities),
        "classes": ["quiet", 'l"oud'],
        "hop_seconds": 0.01,
        "segments": [
            {"label": "quiet", "start": 0.0, "end": 0.02, "probability": 0.75},
            {"label": 'l"oud', "start": 0.02, "end": 0.03, "probability": 0.75},
        ],
        "duration": 253 / 8000,
        "model": "frames",
    }


def test_csv() -> None:
    lines = to_csv(ONE).decode().split("\r\n")
    assert lines[0] == 'start,end,label,probability,p_quiet,"p_l""oud"'
    assert lines[1].startswith("0.0,0.01,quiet,")
    assert lines[3].startswith('0.02,0.03,"l""oud",')
    assert lines[4:] == [""]


def test_textgrid() -> None:
    assert (
        to_textgrid(ONE).decode()
        == """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 0.031625
tiers? <exists>
size = 1
item []:
    item [1]:
        class = "IntervalTier"
        name = "labels"
        xmin = 0
        xmax = 0.031625
        intervals: size = 3
        intervals [1]:
            xmin = 0.0
            xmax = 0.02
            text = "quiet"
        intervals [2]:
            xmin = 0.02
            xmax = 0.03
            text = "l""oud"
        intervals [3]:
            xmin = 0.03
            xmax = 0.031625
            text = ""
"""
    )


@given(anything())
def test_any_recording_as_json(recording: Heard) -> None:
    document = json.loads(to_json(recording, {}))
    np.testing.assert_array_equal(np.array(document["probabilities"], np.float32), recording.probabilities)
    assert document["labels"] == recording.labels
    assert document["classes"] == recording.classes
    assert document["segments"][0]["start"] == 0
    for before, after in itertools.pairwise(document["segments"]):
        assert before["end"] == after["start"]
    assert document["segments"][-1]["end"] <= document["duration"]


@given(anything())
def test_any_recording_as_csv(recording: Heard) -> None:
    names, *rows = csv.reader(io.StringIO(to_csv(recording).decode(), newline=""), strict=True)
    assert names == ["start", "end", "label", "probability", *(f"p_{name}" for name in recording.classes)]
    assert [row[2] for row in rows] == recording.labels
    numbers = np.array([row[3:] for row in rows], np.float32)
    np.testing.assert_array_equal(numbers[:, 1:], recording.probabilities)
    np.testing.assert_array_equal(numbers[:, 0], recording.probabilities.max(axis=1))
    edges = np.arange(len(rows) + 1) * recording.hop_length / recording.sample_rate
    assert [float(row[0]) for row in rows] == edges[:-1].tolist()
    assert [float(row[1]) for row in rows] == edges[1:].tolist()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(recording=anything())
def test_any_recording_as_a_textgrid(tmp_path: Path, recording: Heard) -> None:
    file = tmp_path / "frames.TextGrid"
    file.write_bytes(to_textgrid(recording))
    grid = textgrid.openTextgrid(str(file), includeEmptyIntervals=True, reportingMode="error")
    assert grid.tierNames == ("labels",)
    tier = grid.getTier("labels")
    assert isinstance(tier, IntervalTier)
    assert (tier.minTimestamp, tier.maxTimestamp) == (0, recording.duration)
    found = [tuple(entry) for entry in tier.entries]
    wanted = [
        (recording.seconds(segment.start), recording.seconds(segment.end), segment.label.strip())
        for segment in recording.segments
    ]
    if wanted[-1][1] < recording.duration:
        wanted.append((wanted[-1][1], recording.duration, ""))
    assert found == wanted  # praatio leaves out the blanks around a label


@pytest.mark.parametrize("count", [999, 1000, 1001, 2500])
def test_many_frames_go_in_pieces(count: int) -> None:
    recording = heard(["a", "b", "c"], [(1, count)])
    document = json.loads(to_json(recording, {}))
    np.testing.assert_array_equal(np.array(document["probabilities"], np.float32), recording.probabilities)
    rows = to_csv(recording).decode().splitlines()
    assert len(rows) == count + 1
    assert rows[-1].startswith(f"{(count - 1) / 100},{count / 100},b,")
