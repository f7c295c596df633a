"""WS /v1/frames/stream over real sockets."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.service import small_frames
from tests.service.stream_client import Closed, CutError, StreamClient
from tests.service.streams.heard import CHUNK, SECONDS, closing_lines, heard, pcm, stream_whole

PAGE = Path(__file__).parents[3] / "docs" / "frames.md"


def test_the_example_on_the_page(server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    address = f"{server.address[0]}:{server.address[1]}"
    exec(example.replace("127.0.0.1:8000", address).replace('"docs/', f'"{PAGE.parent}/'), {})  # noqa: S102
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith("heard: {'label': '7', 'probability': 0.9")


def test_every_error_is_on_the_page() -> None:
    codes = re.findall(r"^\| `(\w+)` \| (\d+) \|", PAGE.read_text(), flags=re.MULTILINE)
    sources = "".join(
        (PAGE.parents[1] / "service" / "streams" / f"{name}.py").read_text()
        for name in ("connection", "protocol")
    )
    raised = re.findall(r'Failure\(\s*"(\w+)",\s*(\d+)', sources)
    assert set(raised) - {("dropped", "1006")} == set(codes)


def test_the_first_message(connect: Callable[[], StreamClient]) -> None:
    with connect() as client:
        started = client.start()
    token, stream = started.pop("resume"), started.pop("stream")
    assert started == {
        "type": "started",
        "model": "frames",
        "version": "1",
        "classes": small_frames.LABELS,
        "hop_seconds": 0.01,
        "sample_rate": 8000,
        "resume_seconds": 60,
        "limits": {"message_bytes": CHUNK, "audio_seconds": SECONDS, "idle_seconds": 60},
    }
    assert token.startswith(f"{stream}.")
    assert len(token) > len(stream) + 20


@pytest.mark.parametrize(
    ("rate", "encoding", "size"), [(8000, "pcm16", 1600), (8000, "float32", 777), (48_000, "pcm16", 4801)]
)
def test_a_stream_hears_what_a_recording_does(
    live: Any, connect: Callable[[], StreamClient], rate: int, encoding: str, size: int
) -> None:
    samples = pcm(2 * rate + 11)
    file = io.BytesIO()
    soundfile.write(file, samples, rate, "PCM_16", format="WAV")
    recording = live.client.post("/v1/frames", content=file.getvalue()).json()

    if encoding == "float32":
        samples = (samples / 32768).astype("<f4")
    with connect() as client:
        messages = stream_whole(
            client, samples, size, sample_rate=rate, encoding=encoding, probabilities=True
        )
    stream = heard(messages)
    assert stream["labels"] == recording["labels"]
    assert stream["posteriors"] == recording["probabilities"]
    assert stream["best"] == [max(row) for row in recording["probabilities"]]
    *segments, result = stream["others"]
    assert segments == [{"type": "segment"} | segment for segment in recording["segments"]]
    assert result == {
        "type": "result",
        "utterance": recording["utterance"],
        "frames": len(recording["labels"]),
        "duration": len(samples) / rate,
        "segments": len(segments),
    }
    assert len({message["resume"] for message in messages}) == len(messages)


@given(
    chunks=st.lists(st.one_of(st.integers(0, 5), st.integers(0, 3000), st.just(CHUNK)), max_size=20).map(
        lambda sizes: [size for index, size in enumerate(sizes) if sum(sizes[: index + 1]) < 60_000]
    )
)
@settings(max_examples=20)
def test_any_chunks_give_the_same_answer(live: Any, chunks: list[int]) -> None:
    raw = pcm(30_000).tobytes()
    with StreamClient(live.address) as client:
        client.start(probabilities=True)
        start = 0
        for size in chunks:
            client.send(raw[start : start + size])
            start += size
        client.send({"type": "finish"})
        messages, _ = client.rest()
    count = start // 2
    got = heard(messages)
    np.testing.assert_allclose(
        np.array(got["posteriors"]).reshape(-1, 3),
        small_frames.expected(pcm(30_000)[:count] / 32768),
        atol=1e-6,
    )
    assert messages[-1]["duration"] == count / 8000


def test_answers_come_while_it_is_said(connect: Callable[[], StreamClient]) -> None:
    with connect() as client:
        client.start()
        for start in range(0, 100, 10):
            client.send(bytes(1600))
            assert client.message()["start"] == start


def test_nothing_said_is_a_result_too(connect: Callable[[], StreamClient]) -> None:
    with connect() as client:
        client.start()
        client.send(b"")
        client.send(b"\0")
        client.send({"type": "finish"})
        (result,), closed = client.rest()
    assert closed.code == 1000
    del result["resume"]
    assert result == {"type": "result", "utterance": None, "frames": 0, "duration": 0, "segments": 0}


OPENINGS = {
    "binary": (b"\0\0", "binary_first", 1003, "the first message is binary"),
    "not JSON": ("{", "not_json", 1007, "Invalid JSON: EOF while parsing"),
    "not an object": ("[]", "invalid_message", 1008, "Input should be an object"),
    "another type": ({"type": "finish"}, "invalid_message", 1008, "Input tag 'finish' found using 'type'"),
    "no rate": (
        {"type": "start", "encoding": "pcm16"},
        "invalid_message",
        1008,
        "sample_rate: Field required",
    ),
    "a rate of words": (
        {"type": "start", "encoding": "pcm16", "sample_rate": "8000"},
        "invalid_message",
        1008,
        "sample_rate: Input should be a valid integer",
    ),
    "a rate too low": (
        {"type": "start", "encoding": "pcm16", "sample_rate": 999},
        "invalid_message",
        1008,
        "the sample rate is 999 Hz",
    ),
    "a rate too high": (
        {"type": "start", "encoding": "pcm16", "sample_rate": 10**30},
        "invalid_message",
        1008,
        "the sample rate is 1000000000000000000000000000000 Hz",
    ),
    "an encoding": (
        {"type": "start", "encoding": "mp3", "sample_rate": 8000},
        "invalid_message",
        1008,
        "encoding: Input should be 'pcm16' or 'float32'",
    ),
    "a field too many": (
        {"type": "start", "encoding": "pcm16", "sample_rate": 8000, "channels": 2},
        "invalid_message",
        1008,
        "channels: Extra inputs are not permitted",
    ),
    "an unknown model": (
        {"type": "start", "encoding": "pcm16", "sample_rate": 8000, "model": "words"},
        "unknown_model",
        1008,
        "there is no model 'words'; this server has digits, frames",
    ),
    "a model for images": (
        {"type": "start", "encoding": "pcm16", "sample_rate": 8000, "model": "digits"},
        "unknown_model",
        1008,
        "model digits version 1 has the task 'digits'",
    ),
    "a token of nobody": ({"type": "resume", "token": "x.y.1"}, "unknown_stream", 4404, "no stream has this"),
    "a number as token": ({"type": "resume", "token": 1}, "invalid_message", 1008, "token: Input should be"),
    "a token too long": (
        {"type": "resume", "token": "x" * 201},
        "invalid_message",
        1008,
        "token: String should have at most 200",
    ),
    "a text too large": (
        f'{{"type": [{",".join(["[]"] * 2000)}]}}',
        "message_too_large",
        1009,
        "the message has 6011 characters",
    ),
}


@pytest.mark.parametrize("name", OPENINGS)
def test_openings_that_are_refused(connect: Callable[[], StreamClient], name: str) -> None:
    opening, code, close, detail = OPENINGS[name]
    with connect() as client:
        client.send(opening)
        error, closed = client.error()
    assert (error["code"], closed) == (code, close)
    assert detail in error["detail"]
    assert error["expected"]
    assert "resume" not in error


LATER = {
    "not JSON": ("finish", "not_json", 1007, "Invalid JSON"),
    "another type": ({"type": "pause"}, "invalid_message", 1008, "type: Input should be 'finish'"),
    "a second start": (
        {"type": "start", "encoding": "pcm16", "sample_rate": 8000},
        "invalid_message",
        1008,
        "type: Input should be 'finish'",
    ),
    "a chunk too large": (bytes(CHUNK + 1), "message_too_large", 1009, f"the message has {CHUNK + 1} bytes"),
    "a text too large": (" " * 4097, "message_too_large", 1009, "the message has 4097 characters"),
    "a text beyond a chunk": (" " * (CHUNK + 1), "message_too_large", 1009, f"has {CHUNK + 1} bytes"),
    "NaN": (np.full(9, np.nan, "<f4").tobytes(), "invalid_audio", 1007, "NaN or infinite"),
    "far too loud": (np.full(9, 99, "<f4").tobytes(), "invalid_audio", 1007, "a sample of size 99"),
}


@pytest.mark.parametrize("name", LATER)
def test_a_bad_message_ends_the_connection_and_not_the_stream(
    live: Any, connect: Callable[[], StreamClient], name: str
) -> None:
    message, code, close, detail = LATER[name]
    samples = (pcm(8000) / 32768).astype("<f4").tobytes()
    with connect() as client:
        stream = client.start(encoding="float32")["stream"]
        client.send(samples[:16000])
        messages = [client.message()]
        client.send(message)
        more, closed = client.rest()
        *more, error = more
        messages += more
    assert (error["code"], closed.code) == (code, close)
    assert detail in error["detail"]
    assert error["expected"]
    assert error["resume"] == messages[-1]["resume"]

    with connect() as client:
        client.send({"type": "resume", "token": error["resume"]})
        resumed = client.message()
        assert (resumed["type"], resumed["samples"], resumed["finished"]) == ("resumed", 4000, False)
        client.send(samples[16000:])
        client.send({"type": "finish"})
        messages += client.rest()[0]
    with connect() as client:
        undisturbed = stream_whole(client, np.frombuffer(samples, "<f4"), 16000, encoding="float32")
    assert heard(messages) == heard(undisturbed)
    (line,) = [line for line in closing_lines(live, stream) if line["event"] == "stream"]
    assert (line["reason"], line["connections"], line["frames"], line["seconds"]) == ("finished", 2, 100, 1)


def test_more_audio_than_allowed(connect: Callable[[], StreamClient]) -> None:
    with connect() as client:
        client.start()
        for _ in range(24):
            client.send(bytes(CHUNK))
        client.send(b"\0")  # half a sample is none
        client.send(b"\0")
        error, closed = client.error()
    assert (error["code"], closed) == ("audio_too_long", 1008)
    assert error["detail"] == "the stream would have 240001 samples; it may have 240000"
    with connect() as client:
        client.send({"type": "resume", "token": error["resume"]})
        assert client.message()["samples"] == 240_000
        client.send({"type": "finish"})
        assert client.rest()[0][-1]["frames"] == 3000


def test_a_message_that_is_far_too_large_is_cut_off(connect: Callable[[], StreamClient]) -> None:
    with connect() as client:
        token = client.start()["resume"]
        with suppress(CutError, OSError):  # the server does not read it to its end
            client.send(bytes(50 * CHUNK))
            assert client.receive() == Closed(
                1009, f"frame with {50 * CHUNK} bytes exceeds limit of 80000 bytes"
            )
    with connect() as client:
        client.send({"type": "resume", "token": token})
        assert client.message()["samples"] == 0
