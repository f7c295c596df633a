"""A model whose filter's memory is too long for a window: streamed, it says what it says of the whole, up to
rounding.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from exports.card import Card
from exports.cli import main
from models.frames import FrameModel
from tests.service.stream_client import StreamClient
from tests.service.streams.heard import pcm, stream_whole
from training.data.phones import CLASSES

RATE = 16_000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, small_timit: Path) -> Path:
    folder = tmp_path_factory.mktemp("long")
    torch.manual_seed(0)
    front_end = {"sample_rate": RATE, "win_length": 400, "hop_length": 160, "n_fft": 512}
    network = FrameModel(
        len(CLASSES),
        hidden_size=32,
        front_end_options=front_end,
        filter_options={"mu": 0.97, "epsilon": 0.1},
    )
    saved = {
        "config": network.config,
        "weights": network.state_dict(),
        "labels": [*CLASSES],
        "silence": "sil",
    }
    provenance = {
        "recipe": {"model": {}},
        "seed": 1,
        "epochs": 0,
        "dataset": "synthetic-timit",
        "options": {},
    }
    torch.save(
        {"frame_model": saved, "provenance": provenance | {"sha256": {"train": "0" * 64}}},
        folder / "best.ckpt",
    )
    arguments = [folder / "best.ckpt", "--name", "frames", "--store", folder / "store", "--data", small_timit]
    assert main([str(argument) for argument in arguments]) == 0
    return folder / "store"


@pytest.mark.parametrize("size", [777, 6400, 19_998])
def test_streamed_is_whole_up_to_rounding(serve: Any, store: Path, size: int) -> None:
    assert Card.read(store / "frames" / "1" / "card.json").exactness.streamed == "rounding"
    samples = pcm(5 * RATE)
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="WAV")
    with serve("--store", store) as server:
        whole = server.client.post("/v1/frames", content=file.getvalue()).json()
        with StreamClient(server.address) as client:
            messages = stream_whole(client, samples, size, sample_rate=RATE, probabilities=True)
    frames = [message for message in messages if message["type"] == "frames"]
    streamed = np.array([row for message in frames for row in message["posteriors"]])
    np.testing.assert_allclose(streamed, np.array(whole["probabilities"]), rtol=0, atol=1e-6)
