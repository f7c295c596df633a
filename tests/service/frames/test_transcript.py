"""What was said does not depend on how the frames came, and is what the probabilities say."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from exports.card import Card
from service.frames.transcript import Decision, Segment, Transcript
from tests.service.small_frames import small_frames_card

CARD = Card.model_validate(small_frames_card(b"graph", "frames", "1"))
MUTE = CARD.model_copy(update={"silence": None})


@st.composite
def beliefs(draw: Callable[[st.SearchStrategy[Any]], Any], most: int = 60) -> NDArray[np.float32]:
    """Probabilities [frames, 3] with runs of the same label."""
    count = draw(st.integers(0, most))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    runs = np.repeat(generator.integers(0, 3, count), generator.integers(1, 5, count))[:count]
    scores = generator.normal(size=(count, 3)) + draw(st.sampled_from([0, 3, 60])) * np.eye(3)[runs]
    exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True), np.float32)


def told(
    pieces: list[NDArray[np.float32]], card: Card = CARD
) -> tuple[list[str], list[float], list[Segment], Decision | None]:
    """Everything a transcript says of frames that come in these pieces."""
    transcript = Transcript(card)
    labels: list[str] = []
    best: list[float] = []
    segments: list[Segment] = []
    for piece in pieces:
        more_labels, more_best, ended = transcript.add(piece)
        assert len(more_labels) == len(more_best) == len(piece)
        labels, best, segments = labels + more_labels, best + more_best, segments + ended
    assert transcript.frames == len(labels)
    return labels, best, segments + transcript.finish(), transcript.decide()


@given(beliefs(), st.lists(st.integers(0, 60)), st.sampled_from([CARD, MUTE]))
def test_where_pieces_end_makes_no_difference(
    probabilities: NDArray[np.float32], cuts: list[int], card: Card
) -> None:
    assert told(np.split(probabilities, sorted(cuts)), card) == told([probabilities], card)


@given(beliefs())
def test_segments_are_the_runs_of_labels(probabilities: NDArray[np.float32]) -> None:
    labels, best, segments, _ = told([probabilities])
    assert labels == [CARD.labels[index] for index in probabilities.argmax(axis=1)]
    assert best == probabilities.max(axis=1).tolist() if len(probabilities) else not best
    assert [segment.label for segment in segments] == [label for label, _ in itertools.groupby(labels)]
    ends = [0]
    for segment in segments:
        assert segment.start == ends[-1] < segment.end
        assert set(labels[segment.start : segment.end]) == {segment.label}
        column = probabilities[segment.start : segment.end, CARD.labels.index(segment.label)]
        assert segment.probability == pytest.approx(column.mean(dtype=float))
        ends.append(segment.end)
    assert ends[-1] == len(probabilities)


@given(beliefs(), st.sampled_from([CARD, MUTE]))
def test_the_decision_is_the_greatest_mean_without_silence(
    probabilities: NDArray[np.float32], card: Card
) -> None:
    labels, _, _, decision = told([probabilities], card)
    if not len(probabilities):
        assert decision is None
        return
    assert decision is not None
    means = probabilities.mean(axis=0, dtype=float)
    if card.silence is not None and set(labels) == {card.silence}:
        assert decision == Decision(card.silence, pytest.approx(means[0]))
        return
    compared = dict(zip(card.labels, means.tolist(), strict=True))
    if card.silence is not None:
        del compared[card.silence]
    assert compared[decision.label] == pytest.approx(max(compared.values()))
    assert decision.probability == pytest.approx(compared[decision.label] / sum(compared.values()))
    assert 0 < decision.probability <= 1


def test_silence_around_a_word_does_not_outvote_it() -> None:
    quiet, loud = [0.98, 0.01, 0.01], [0.1, 0.0, 0.9]
    assert told([np.array([quiet] * 50 + [loud], np.float32)])[3] == Decision(
        "loud", pytest.approx(1.4 / 1.9)
    )
    assert told([np.array([quiet] * 50, np.float32)])[3] == Decision("quiet", pytest.approx(0.98))


def test_the_last_segment_ends_once_and_another_may_begin() -> None:
    transcript = Transcript(CARD)
    assert transcript.finish() == []
    frame = np.array([[0.25, 0.5, 0.25]], np.float32)
    assert transcript.add(frame) == (["soft"], [0.5], [])
    assert transcript.finish() == [Segment("soft", 0, 1, 0.5)]
    assert transcript.finish() == []
    assert transcript.add(frame) == (["soft"], [0.5], [])
    assert transcript.finish() == [Segment("soft", 1, 2, 0.5)]


def test_two_million_frames_are_counted_without_being_kept() -> None:
    transcript = Transcript(MUTE)
    piece = np.full((20_000, 3), (0.125, 0.125, 0.75), np.float32)
    for _ in range(100):
        assert transcript.add(piece)[2] == []
    assert transcript.decide() == Decision("loud", 0.75)
    assert transcript.finish() == [Segment("loud", 0, 2_000_000, 0.75)]
