"""The shipped frames model through the WebSocket of a real server: its accuracy, and the same bits however
audio is cut.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.sync.client import connect

from exports.store import DEFAULT_STORE, read_card
from tests.service.conftest import Server
from training.data import load_speech

RECORDING = Path(__file__).parents[3] / "docs" / "audio" / "digits.wav"


def hear(server: Server, audio: bytes, cuts: list[int], **options: Any) -> list[dict[str, Any]]:
    """Stream pcm16 in pieces that end at `cuts`, and return all messages."""
    url = server.url.replace("http", "ws") + "/v1/frames/stream"
    with connect(url) as socket:
        start = {"type": "start", "sample_rate": 8000, "encoding": "pcm16"} | options
        socket.send(json.dumps(start))
        edges = [0, *sorted(cuts), len(audio)]
        for begin, end in pairwise(edges):
            socket.send(audio[begin:end])
        socket.send(json.dumps({"type": "finish"}))
        return [json.loads(message) for message in socket]


def test_streamed_files_get_the_card_s_accuracy(server: Server, shared_datasets: Path) -> None:
    _, card = read_card(DEFAULT_STORE, "frames")
    options = card.provenance.data_options
    speech = load_speech("fsdd", "test", shared_datasets, options=options)
    right = frames = right_frames = 0
    for utterance in speech.utterances:
        audio = np.round(utterance.samples * 32768).astype("<i2").tobytes()
        messages = hear(server, audio, list(range(1600, len(audio), 1600)))
        labels = [label for message in messages if message["type"] == "frames" for label in message["labels"]]
        wanted = utterance.frame_labels(card.hop_length or 1)
        right_frames += sum(a == b for a, b in zip(labels, wanted, strict=True))
        frames += len(wanted)
        right += messages[-1]["utterance"]["label"] == utterance.label
    stated = {metric.name: metric for metric in card.metrics}
    assert frames == stated["frame_accuracy"].count
    assert abs(right_frames - round(stated["frame_accuracy"].value * frames)) <= 2
    assert right == round(stated["utterance_accuracy"].value * len(speech))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_streamed_is_whole_bit_for_bit(server: Server, data: st.DataObject) -> None:
    content = RECORDING.read_bytes()
    whole = server.client.post("/v1/frames", content=content).json()
    samples, _ = soundfile.read(RECORDING, dtype="int16")
    audio = samples.astype("<i2").tobytes()
    cuts = [
        len(audio) // 2,
        *data.draw(st.lists(st.integers(0, len(audio)), max_size=40)),
    ]  # 64 KiB a message
    messages = hear(server, audio, cuts, probabilities=True)
    posteriors = [row for message in messages if message["type"] == "frames" for row in message["posteriors"]]
    assert posteriors == whole["probabilities"]
    segments = [message for message in messages if message["type"] == "segment"]
    for streamed, stated in zip(segments, whole["segments"], strict=True):
        assert {name: streamed[name] for name in stated} == stated
    assert messages[-1]["utterance"] == whole["utterance"]
