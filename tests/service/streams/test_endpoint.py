"""WS /v1/frames/stream over real sockets."""

from __future__ import annotations

import asyncio
import io
import json
import random
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import websockets
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from tests.service import small_frames
from tests.service.stream_client import Closed, CutError, StreamClient
from tests.service.streams.heard import heard, pcm, stream_whole

PAGE = Path(__file__).parents[3] / "docs" / "frames.md"
CHUNK = 20_000  # bytes, the limit of the servers here
SECONDS = 30


@pytest.fixture(scope="module")
def live(serve: Any, small_store: Path) -> Iterator[Any]:
    """A server with small limits."""
    limits = ("--max-chunk-bytes", CHUNK, "--max-stream-seconds", SECONDS, "--max-streams", 200)
    with serve("--store", small_store, "--lanes", 2, *limits) as server:
        yield server


@pytest.fixture
def connect(live: Any) -> Callable[[], StreamClient]:
    return lambda: StreamClient(live.address)


def closing_lines(server: Any, stream: str) -> list[dict[str, Any]]:
    """The lines in the log on a stream, once its end is among them."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        lines = [line for line in server.log() if line.get("stream") == stream]
        if any(line["event"] == "stream" for line in lines):
            return lines
        time.sleep(0.01)
    raise AssertionError(server.log())


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
    "a text too large": (" " * (CHUNK + 1), "message_too_large", 1009, f"the message has {CHUNK + 1} bytes"),
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


AUDIO = pcm(20_000).tobytes()


@settings(max_examples=30)
@given(
    size=st.sampled_from([100, 1601, 4000, CHUNK]),
    losses=st.lists(
        st.tuples(
            st.sampled_from(["cut", "close", "stay"]),
            st.integers(0, len(AUDIO)),  # how much is sent before
            st.integers(1, 10),  # after how many chunks each time what has arrived is read
        ),
        max_size=6,
    ),
)
def test_a_connection_may_be_lost_at_any_moment(
    live: Any, size: int, losses: list[tuple[str, int, int]]
) -> None:
    """Nothing is lost, nothing comes twice, and the messages are those of an undisturbed stream."""
    messages: list[dict[str, Any]] = []
    token, sent = None, 0
    with ExitStack() as clients:
        for ending, until, pause in [*losses, ("finish", len(AUDIO), 10)]:
            client = clients.enter_context(StreamClient(live.address))
            if token is None:
                token = client.start(probabilities=True)["resume"]
            else:
                client.send({"type": "resume", "token": token})
                resumed = client.message()
                assert (resumed["type"], resumed["resume"]) == ("resumed", token)
                assert 2 * resumed["samples"] <= sent
                sent = 2 * resumed["samples"]
            for number, start in enumerate(range(sent, until, size), 1):
                sent = min(start + size, until)
                client.send(AUDIO[start:sent])
                if number % pause == 0:
                    messages += client.arrived()
            if sent == len(AUDIO):
                client.send({"type": "finish"})
            if ending == "finish":
                more, closed = client.rest()
                messages += more
                assert closed == Closed(1000, "finished")
            elif ending == "cut":
                client.cut()
            elif ending == "close":
                client.socket.close()
            token = messages[-1]["resume"] if messages else token
    with StreamClient(live.address) as client:
        undisturbed = stream_whole(client, np.frombuffer(AUDIO, "<i2"), 1600, probabilities=True)
    assert heard(messages) == heard(undisturbed)


def test_a_second_connection_takes_over(live: Any, connect: Callable[[], StreamClient]) -> None:
    with connect() as first, connect() as second:
        started = first.start()
        first.send(bytes(1600))
        token = first.message()["resume"]
        second.send({"type": "resume", "token": token})
        assert second.message()["samples"] == 800
        error, closed = first.error()
        assert (error["code"], closed) == ("taken_over", 4409)
        assert "resume" not in error
        second.send(bytes(1600))
        assert second.message()["start"] == 10
        second.send({"type": "finish"})
        assert second.rest()[0][-1]["frames"] == 20
    outcomes = [line["outcome"] for line in closing_lines(live, started["stream"]) if "outcome" in line]
    assert outcomes[0] == "taken_over"


def test_the_result_can_be_fetched_later(connect: Callable[[], StreamClient]) -> None:
    with connect() as client:
        token = client.start()["resume"]
        client.send(pcm(8000).tobytes())
        client.send({"type": "finish"})
        answers = [client.rest()]
    for again in (False, True):
        with connect() as client:
            client.send({"type": "resume", "token": token})
            if again:  # as a client does that does not know what arrived
                client.send({"type": "finish"})
            resumed = client.message()
            assert (resumed["samples"], resumed["frames"], resumed["finished"]) == (8000, 100, True)
            answers.append(client.rest())
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0][-1]["type"] == "result"


def test_messages_that_are_not_kept(serve: Any, small_store: Path) -> None:
    with serve("--store", small_store, "--stream-replay-bytes", 0) as server:
        with StreamClient(server.address) as client:
            token = client.start()["resume"]
            for _ in range(3):
                client.send(bytes(1600))
                newest = client.message()["resume"]
        with StreamClient(server.address) as client:
            client.send({"type": "resume", "token": token})
            error, closed = client.error()
            assert (error["code"], closed) == ("messages_gone", 4410)
            assert error["detail"].startswith("the token is that of message 0; those after ")
        with StreamClient(server.address) as client:
            client.send({"type": "resume", "token": newest})
            assert client.message()["samples"] == 2400


@pytest.fixture(scope="module")
def hasty(serve: Any, small_store: Path) -> Iterator[Any]:
    """A server that waits for nothing long."""
    waits = {"start": 0.2, "idle": 0.4, "resume": 0.3, "stall": 0.3}
    flags = [f"--stream-{name}-seconds={seconds}" for name, seconds in waits.items()]
    with serve("--store", small_store, *flags) as server:
        yield server


def test_a_connection_that_begins_nothing(hasty: Any) -> None:
    with StreamClient(hasty.address) as client:
        error, closed = client.error()
    assert (error["code"], closed) == ("start_timeout", 4408)
    assert error["detail"] == "there was no message for 0.2 seconds"


def test_a_stream_without_audio_ends(hasty: Any) -> None:
    with StreamClient(hasty.address) as client:
        started = client.start()
        client.send(bytes(1600))
        client.message()
        error, closed = client.error()
    assert (error["code"], closed) == ("idle", 4408)
    assert "resume" not in error
    with StreamClient(hasty.address) as client:
        client.send({"type": "resume", "token": started["resume"]})
        error, closed = client.error()
    assert (error["code"], closed) == ("unknown_stream", 4404)
    assert error["detail"].endswith("it got no audio for 0.4 s")
    lines = closing_lines(hasty, started["stream"])
    assert [line["reason"] for line in lines if line["event"] == "stream"] == ["idle"]


def test_a_stream_that_nobody_resumes_ends(hasty: Any) -> None:
    with StreamClient(hasty.address) as client:
        started = client.start()
    lines = closing_lines(hasty, started["stream"])
    assert [line.get("outcome", line.get("reason")) for line in lines] == ["dropped", "expired"]
    with StreamClient(hasty.address) as client:
        client.send({"type": "resume", "token": started["resume"]})
        error, _ = client.error()
    assert error["detail"].endswith("it had no connection for 0.3 s")


def test_too_many_streams_are_told_when_to_try_again(serve: Any, small_store: Path) -> None:
    with (
        serve("--store", small_store, "--max-streams", 1) as server,
        StreamClient(server.address) as first,
    ):
        first.start()
        with StreamClient(server.address) as second:
            error = second.start()
            assert second.receive() == Closed(1013, "too_many_streams")
        assert (error["code"], error["retry_seconds"]) == ("too_many_streams", 5)
        assert error["detail"] == "1 streams are open, as many as this server takes"
        first.send({"type": "finish"})
        first.rest()
        with StreamClient(server.address) as second:
            assert second.start()["type"] == "started"


def test_a_client_that_does_not_read_is_cut_off(hasty: Any) -> None:
    audio = bytes(60_000)
    with StreamClient(hasty.address, receive_buffer=4096) as client:
        stream = client.start(probabilities=True)["stream"]
        client.socket.settimeout(30)
        sent = 0
        with suppress(OSError):  # a client that does not read can't know why it can't write any more
            while True:
                client.send(audio)
                sent += len(audio)
        assert sent < 200 * len(audio)
    lines = closing_lines(hasty, stream)
    assert "not_reading" in [line.get("outcome") for line in lines]


def test_pings_without_end_are_cut_off(live: Any) -> None:
    """Their pongs must not pile up in the server for a client that does not read them."""
    ping = Frame(Opcode.PING, b"x" * 125)
    with StreamClient(live.address, receive_buffer=4096) as client:
        flood = ping.serialize(mask=True) * (2**26 // 131)
        with pytest.raises(OSError, match=r"reset|pipe"):
            client.socket.sendall(flood)


def test_a_slow_reader_gets_everything(connect: Callable[[], StreamClient]) -> None:
    with connect() as client:
        client.start(probabilities=True)
        with ThreadPoolExecutor(1) as writer:
            writer.submit(lambda: [client.send(bytes(CHUNK)) for _ in range(20)])
            time.sleep(0.5)
            labels = 0
            while labels < 2500:
                labels += len(client.message()["labels"])
        client.send({"type": "finish"})
        assert client.rest()[0][-1]["frames"] == 2500


def test_many_at_once(live: Any) -> None:
    samples = [pcm(4000, seed) for seed in range(100)]

    async def one(audio: np.ndarray, rng: random.Random) -> list[dict[str, Any]]:
        raw = audio.tobytes()
        url = f"ws://{live.address[0]}:{live.address[1]}/v1/frames/stream"
        async with websockets.connect(url, compression=None, open_timeout=60) as socket:
            await socket.send(json.dumps({"type": "start", "sample_rate": 8000, "encoding": "pcm16"}))
            messages = [json.loads(await socket.recv())]
            start = 0
            while start < len(raw):
                size = rng.randint(1, 3000)
                await socket.send(raw[start : start + size])
                start += size
                await asyncio.sleep(rng.uniform(0, 0.01))
            await socket.send('{"type": "finish"}')
            messages += [json.loads(message) async for message in socket]
            assert socket.close_code == 1000
        return messages[1:]

    async def main() -> list[list[dict[str, Any]]]:
        return await asyncio.gather(*(one(audio, random.Random(0)) for audio in samples))  # noqa: S311

    for audio, messages in zip(samples, asyncio.run(main()), strict=True):
        whole = small_frames.expected(audio / 32768)
        labels = [label for message in messages for label in message.get("labels", [])]
        assert labels == [small_frames.LABELS[index] for index in whole.argmax(axis=1)]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff" * 200,
        b"\x82\x05hello",  # not masked
        b"\x81\x82\0\0\0\0\xff\xfe",  # text that is not UTF-8
        b"\x88\x81\0\0\0\0\x03",  # a close with half a code
        b"\x83\x80\0\0\0\0",  # an unknown opcode
        b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",  # 2^63 bytes to come
        b"\x89\xff" + b"\0" * 300,  # a ping that is too long
    ],
)
def test_garbage_harms_nobody_else(live: Any, connect: Callable[[], StreamClient], garbage: bytes) -> None:
    with connect() as client:
        stream = client.start()["stream"]
        client.send(bytes(1600))
        client.socket.sendall(garbage)
        with suppress(CutError):
            client.rest()
    while not [line for line in live.log() if line.get("stream") == stream and "outcome" in line]:
        time.sleep(0.01)
    with connect() as client:
        assert client.start()["type"] == "started"


def test_pieces_of_a_handshake(live: Any) -> None:
    with socket.create_connection(live.address) as connection:
        connection.sendall(b"GET /v1/frames/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n")
    with socket.create_connection(live.address) as connection:
        connection.sendall(
            b"GET /v1/frames/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
    assert live.client.get("/v2/health/live").status_code == 200


def test_plain_http_is_told_to_upgrade(live: Any) -> None:
    response = live.client.get("/v1/frames/stream")
    assert response.status_code == 426
    assert response.headers["upgrade"] == "websocket"
    assert response.json()["detail"] == "/v1/frames/stream speaks WebSocket only"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_tells_the_clients(serve: Any, small_store: Path, number: signal.Signals) -> None:
    with (
        serve("--store", small_store) as server,
        StreamClient(server.address) as speaking,
        StreamClient(server.address) as fresh,
    ):
        stream = speaking.start()["stream"]
        speaking.send(bytes(1600))
        token = speaking.message()["resume"]
        server.process.send_signal(number)
        error, closed = speaking.error()
        assert (error["code"], error["resume"], closed) == ("shutting_down", token, 1001)
        error, closed = fresh.error()
        assert (error["code"], closed) == ("shutting_down", 1001)
        assert server.process.wait(timeout=60) == 0
        assert all(line["level"] == "info" for line in server.log())
        (line,) = [line for line in server.log() if line["event"] == "stream"]
        assert (line["stream"], line["reason"]) == (stream, "shutdown")


def test_stopping_does_not_wait_for_the_deaf(serve: Any, small_store: Path) -> None:
    with (
        serve("--store", small_store, "--shutdown-seconds", 10**6) as server,
        StreamClient(server.address, receive_buffer=4096) as client,
    ):
        client.start(probabilities=True)
        client.socket.settimeout(0.3)
        with suppress(TimeoutError):
            while True:
                client.send(bytes(60_000))
        assert server.stop() == 0


def test_a_server_that_was_started_anew(live: Any, serve: Any, small_store: Path) -> None:
    with StreamClient(live.address) as client:
        token = client.start()["resume"]
    with serve("--store", small_store) as server, StreamClient(server.address) as client:
        client.send({"type": "resume", "token": token})
        error, closed = client.error()
        assert (error["code"], closed) == ("unknown_stream", 4404)
        assert "was another server's or this one's before it was started anew" in error["detail"]


def test_a_model_that_fails_ends_the_stream(
    serve: Any, tmp_path: Path, write_frames_artifact: Callable[..., Path]
) -> None:
    write_frames_artifact(tmp_path, change=lambda card: card.update(hop_length=40))  # the graph's is 80
    with serve("--store", tmp_path) as server:
        with StreamClient(server.address) as client:
            started = client.start()
            client.send(bytes(160))
            error, closed = client.error()
        assert (error["code"], closed) == ("failed", 1011)
        assert error["detail"] == "the server failed at this stream; its log has the details"
        assert "resume" not in error
        lines = closing_lines(server, started["stream"])
        assert [line["event"] for line in lines[:2]] == ["inference failed", "stream"]
        assert "answered 1 frames for 2 hops" in lines[0]["exception"]
        assert lines[1]["reason"] == "failed"
