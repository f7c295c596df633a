"""Audio for streams, and what their messages and the log say."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from tests.service import small_frames
from tests.service.stream_client import Closed, StreamClient

CHUNK = 20_000  # bytes, the limit of the servers here
SECONDS = 30


def pcm(count: int, seed: int = 0) -> np.ndarray:
    """Noise of changing loudness, as 16-bit samples."""
    rng = np.random.default_rng(seed)
    loudness = np.repeat(rng.uniform(0, 1, count // 700 + 1), 700)[:count]
    return (32767 * loudness * rng.uniform(-1, 1, count)).astype("<i2")


def heard(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """What messages say, however the frames are cut into messages, without their tokens."""
    labels: list[str] = []
    best: list[float] = []
    posteriors: list[list[float]] = []
    others = []
    for message in messages:
        if message["type"] == "frames":
            assert message["start"] == len(labels)
            assert message["time"] == message["start"] * small_frames.HOP / small_frames.SAMPLE_RATE
            labels += message["labels"]
            best += message["probabilities"]
            posteriors += message.get("posteriors", [])
        else:
            others.append({name: value for name, value in message.items() if name != "resume"})
    return {"labels": labels, "best": best, "posteriors": posteriors, "others": others}


def stream_whole(client: StreamClient, samples: np.ndarray, size: int, **start: Any) -> list[dict[str, Any]]:
    """Send samples in chunks of so many bytes, and return all messages after the first."""
    client.start(**start)
    raw = samples.tobytes()
    for begin in range(0, len(raw), size):
        client.send(raw[begin : begin + size])
    client.send({"type": "finish"})
    messages, closed = client.rest()
    assert closed == Closed(1000, "finished")
    return messages


def closing_lines(server: Any, stream: str) -> list[dict[str, Any]]:
    """The lines in the log on a stream, once its end is among them."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        lines = [line for line in server.log() if line.get("stream") == stream]
        if any(line["event"] == "stream" for line in lines):
            return lines
        time.sleep(0.01)
    raise AssertionError(server.log())
