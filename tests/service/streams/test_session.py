"""A stream without connections: what is run when, and what is told."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine import LaneDiedError
from service.engine.store import Model
from service.settings import Settings
from service.streams.outbox import FULL, Outbox
from service.streams.pcm import PCMDecoder
from service.streams.registry import Reason
from service.streams.session import AudioTooLongError, Session
from tests.service import small_frames
from tests.service.streams.fakes import FakeEngine

HOP, RATE = small_frames.HOP, small_frames.SAMPLE_RATE


class Stream:
    """A session and what surrounds it."""

    def __init__(self, model: Model, **limits: Any) -> None:
        self.engine = FakeEngine(model)
        self.endings: list[Reason] = []
        self.now = 0.0
        self.notified = 0
        self.outbox = Outbox("s", 10**6)
        self.session = Session(
            "s",
            self.engine,  # type: ignore[arg-type]
            model,
            PCMDecoder("float32", RATE, RATE),
            self.outbox,
            posteriors=True,
            settings=Settings(**limits),
            time=lambda: self.now,
            end=lambda _, reason: self.endings.append(reason),
        )
        self.session.listener = self

    def notify(self) -> None:
        self.notified += 1

    def end(self, reason: Reason) -> None:
        raise AssertionError(reason)

    def messages(self) -> list[dict[str, Any]]:
        """Send all there is."""
        sent = []
        while (text := self.outbox.next()) is not None:
            sent.append(json.loads(text))
            self.session.mark_sent()
        return sent

    def finish(self) -> list[dict[str, Any]]:
        """Finish, and run to the end."""
        self.session.finish()
        messages = self.messages()
        while self.engine.waiting:
            self.engine.run()
            messages += self.messages()
        return messages


def audio(count: int, seed: int = 0) -> np.ndarray:
    """Noise of changing loudness."""
    rng = np.random.default_rng(seed)
    loudness = np.repeat(rng.uniform(0, 1, count // 300 + 1), 300)[:count]
    return (loudness * rng.uniform(-1, 1, count)).astype("<f4")


@given(count=st.integers(0, 3 * RATE), data=st.data())
def test_the_messages_add_up_to_the_whole(model: Model, count: int, data: st.DataObject) -> None:
    samples = audio(count, seed=count)
    stream = Stream(model)
    raw = samples.tobytes()
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=10).map(sorted))
    messages = []
    for start, end in pairwise([0, *cuts, len(raw)]):
        stream.session.feed(raw[start:end])
        while stream.engine.waiting and data.draw(st.booleans()):
            stream.engine.run()
        messages += stream.messages()
    messages += stream.finish()

    *messages, result = messages
    whole = model.run(
        {
            "waveform": samples[None, : max(count, 1)] if count else np.zeros((1, 1), np.float32),
            "lengths": np.array([count], np.int32),
        },
        ["probabilities"],
    )["probabilities"][0, : count // HOP]
    chosen = whole.argmax(axis=1)
    frames = [message for message in messages if message["type"] == "frames"]
    assert [first["start"] for first in frames] == [
        0,
        *np.cumsum([len(message["labels"]) for message in frames])[:-1],
    ][: len(frames)]
    assert [message["time"] for message in frames] == [message["start"] * HOP / RATE for message in frames]
    posteriors = np.array([row for message in frames for row in message["posteriors"]], np.float32)
    np.testing.assert_array_equal(posteriors.reshape(-1, 3), whole)
    labels = [label for message in frames for label in message["labels"]]
    assert labels == [small_frames.LABELS[index] for index in chosen]
    best = np.array([value for message in frames for value in message["probabilities"]], np.float32)
    np.testing.assert_array_equal(best, whole.max(axis=1))

    segments = [message for message in messages if message["type"] == "segment"]
    ends = [*(np.flatnonzero(np.diff(chosen)) + 1), len(chosen)] if len(chosen) else []
    assert [segment["end"] for segment in segments] == [end * HOP / RATE for end in ends]
    assert [segment["start"] for segment in segments] == [0, *(end * HOP / RATE for end in ends[:-1])][
        : len(ends)
    ]
    assert [segment["label"] for segment in segments] == [labels[end - 1] for end in ends]
    for segment in segments:
        first, last = round(segment["start"] * RATE / HOP), round(segment["end"] * RATE / HOP)
        assert segment["probability"] == pytest.approx(whole[first:last].max(axis=1).mean())

    assert result["type"] == "result"
    assert (result["frames"], result["duration"], result["segments"]) == (
        count // HOP,
        count / RATE,
        len(ends),
    )
    assert (result["utterance"] is None) == (count < HOP)
    assert stream.endings == [Reason.FINISHED]
    assert [message["resume"] for message in [*messages, result]] == [
        f"s.{number}" for number in range(1, len(messages) + 2)
    ]


def test_audio_that_arrives_meanwhile_is_joined_in_whole_frames(model: Model) -> None:
    stream = Stream(model)
    for size in (HOP - 1, 1, 2 * HOP, HOP + 3, RATE + HOP):
        stream.session.feed(audio(size).tobytes())
    sizes = []
    while stream.engine.waiting:
        sizes.append(stream.engine.waiting[0].size)
        stream.engine.run()
    assert sizes == [HOP, RATE, 4 * HOP]  # the third one is what a second did not hold
    assert stream.session.samples == RATE + 5 * HOP + 3


def test_it_is_full_with_a_second_of_audio(model: Model) -> None:
    stream = Stream(model)
    stream.session.feed(audio(HOP).tobytes())
    stream.session.feed(audio(RATE - 1).tobytes())
    assert not stream.session.full
    stream.session.feed(audio(1).tobytes())
    assert stream.session.full
    stream.engine.run()
    assert not stream.session.full
    assert stream.notified == 1


def test_nothing_is_run_for_a_client_that_takes_no_messages(model: Model) -> None:
    stream = Stream(model)
    stream.outbox.put({"text": "x" * FULL})
    stream.session.feed(audio(3 * RATE).tobytes())
    stream.session.finish()
    assert not stream.engine.waiting
    assert stream.session.full
    assert not stream.session.busy
    assert len(stream.messages()) == 1
    assert stream.engine.waiting
    assert stream.finish()[-1]["frames"] == 300


def test_empty_chunks_do_not_count_as_audio(model: Model) -> None:
    stream = Stream(model)
    stream.now = 5
    stream.session.feed(b"")
    assert stream.session.touched == 0
    stream.session.feed(b"\0")
    assert stream.session.touched == 5


def test_audio_beyond_the_limit_is_not_taken(model: Model) -> None:
    stream = Stream(model, max_stream_seconds=0.5)
    stream.session.feed(audio(RATE // 2).tobytes())
    with pytest.raises(AudioTooLongError, match="the stream would have 4001 samples; it may have 4000"):
        stream.session.feed(audio(1).tobytes())
    assert stream.finish()[-1]["duration"] == 0.5


def test_a_failed_inference_ends_the_stream(model: Model) -> None:
    stream = Stream(model)
    stream.session.feed(audio(HOP).tobytes())
    stream.engine.answer(RuntimeError("broken"))
    assert stream.endings == [Reason.FAILED]


def test_a_lane_that_dies_costs_a_stream_nothing(model: Model) -> None:
    samples = audio(6 * HOP)
    undisturbed, stream = Stream(model), Stream(model)
    for world in (undisturbed, stream):
        for start in range(0, len(samples), 2 * HOP):
            world.session.feed(samples[start : start + 2 * HOP].tobytes())
            for _ in range(2 * (world is stream)):
                world.engine.answer(LaneDiedError("the thread ended"))
                assert world.session.busy
            world.engine.run()
    assert not stream.session.busy
    assert stream.finish() == undisturbed.finish()
    assert stream.endings == [Reason.FINISHED]


def test_a_stream_that_lanes_die_of_ends(model: Model) -> None:
    stream = Stream(model)
    stream.session.feed(audio(HOP).tobytes())
    for _ in range(3):
        assert not stream.endings
        stream.engine.answer(LaneDiedError("the thread ended"))
    assert not stream.session.busy
    assert stream.endings == [Reason.FAILED]


def test_a_model_that_counts_otherwise_fails(model: Model) -> None:
    stream = Stream(model)
    stream.session.feed(audio(HOP).tobytes())
    (request,) = stream.engine.waiting
    answer = model.run(request.inputs, request.outputs)
    stream.engine.answer(answer | {"frames": np.array([2], np.int32)})
    assert stream.endings == [Reason.FAILED]


def test_finishing_twice_changes_nothing(model: Model) -> None:
    stream = Stream(model)
    stream.session.feed(audio(HOP).tobytes())
    assert [message["type"] for message in stream.finish()] == ["frames", "segment", "result"]
    assert stream.finish() == []
    assert stream.endings == [Reason.FINISHED]
