"""NVIDIA's client for Triton talks to this server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import tritonclient.http.aio
from numpy.typing import NDArray
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException


@pytest.fixture
def client(server: Any) -> Iterator[InferenceServerClient]:
    with InferenceServerClient("{}:{}".format(*server.address)) as client:
        yield client


def pixels(images: NDArray[np.uint8], *, binary: bool) -> InferInput:
    values = (images.reshape(len(images), -1) / 255).astype(np.float32)
    tensor = InferInput("pixels", list(values.shape), "FP32")
    tensor.set_data_from_numpy(values, binary_data=binary)
    return tensor


def test_health_and_metadata(client: InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1")
    assert not client.is_model_ready("letters")
    assert client.get_server_metadata()["name"] == "momentum-serve"
    metadata = client.get_model_metadata("digits")
    assert [tensor["name"] for tensor in metadata["inputs"]] == ["pixels", "lengths"]
    assert client.get_model_config("digits")["name"] == "digits"


@pytest.mark.parametrize("sent_binary", [True, False])
@pytest.mark.parametrize("asked_binary", [True, False])
def test_inference(
    client: InferenceServerClient,
    mnist: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    sent_binary: bool,
    asked_binary: bool,
) -> None:
    images, labels = mnist[0][:8], mnist[1][:8]
    result = client.infer(
        "digits",
        [pixels(images, binary=sent_binary)],
        outputs=[InferRequestedOutput("probabilities", binary_data=asked_binary)],
        request_id="batch of 8",
        priority=1,
        timeout=30_000_000,
        parameters={"note": "the client's own"},
    )
    probabilities = result.as_numpy("probabilities")
    assert probabilities.shape == (8, 10)
    assert probabilities.dtype == np.float32
    np.testing.assert_array_equal(probabilities.argmax(axis=1), labels)
    answer = result.get_response()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("batch of 8", "digits", "1")


def test_all_outputs(client: InferenceServerClient, mnist: tuple[NDArray[np.uint8], Any]) -> None:
    result = client.infer("digits", [pixels(mnist[0][:2], binary=True)])
    assert result.as_numpy("trace").shape == (2, 784, 10)
    np.testing.assert_array_equal(result.as_numpy("trace")[:, -1], result.as_numpy("probabilities"))


def test_requests_at_the_same_time(
    client: InferenceServerClient, mnist: tuple[NDArray[np.uint8], NDArray[np.uint8]]
) -> None:
    requests = [client.async_infer("digits", [pixels(mnist[0][i : i + 1], binary=True)]) for i in range(3)]
    answers = [request.get_result().as_numpy("probabilities").argmax() for request in requests]
    assert answers == mnist[1][:3].tolist()


def test_the_asynchronous_client(server: Any, mnist: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    async def main() -> list[int]:
        url = "{}:{}".format(*server.address)
        async with tritonclient.http.aio.InferenceServerClient(url) as client:
            assert await client.is_server_ready()
            results = await asyncio.gather(
                *(client.infer("digits", [pixels(image[None], binary=True)]) for image in mnist[0][:6])
            )
        return [int(result.as_numpy("probabilities").argmax()) for result in results]

    assert asyncio.run(main()) == mnist[1][:6].tolist()


@pytest.mark.parametrize("sequence_id", [7, "call of 10:30"])
def test_a_sequence_answers_what_the_whole_would(
    client: InferenceServerClient, sequence_id: int | str
) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, (1, 4000)).astype(np.float32)

    def hear(part: NDArray[np.float32], **step: Any) -> NDArray[np.float32]:
        tensor = InferInput("waveform", list(part.shape), "FP32")
        tensor.set_data_from_numpy(part)
        return np.array(client.infer("frames", [tensor], **step).as_numpy("probabilities"))

    cuts = [0, 1000, 1030, 2500, 4000]
    parts = [
        hear(
            sound[:, begin:end],
            sequence_id=sequence_id,
            sequence_start=begin == 0,
            sequence_end=end == cuts[-1],
        )
        for begin, end in pairwise(cuts)
    ]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), hear(sound))
    with pytest.raises(InferenceServerException, match="must be started with sequence_start"):
        hear(sound, sequence_id=sequence_id)


def test_statistics(client: InferenceServerClient, mnist: tuple[NDArray[np.uint8], Any]) -> None:
    def done() -> Any:
        return client.get_inference_statistics("digits", "1")["model_stats"][0]

    before = done()
    client.infer("digits", [pixels(mnist[0][:4], binary=True)])
    after = done()
    assert after["inference_count"] - before["inference_count"] == 4
    spent, spent_before = (stats["inference_stats"]["compute_infer"] for stats in (after, before))
    assert spent["count"] > spent_before["count"]
    assert spent["ns"] > spent_before["ns"]


def test_errors(client: InferenceServerClient) -> None:
    tensor = InferInput("pixels", [1, 4], "FP64")
    tensor.set_data_from_numpy(np.zeros((1, 4)))
    with pytest.raises(InferenceServerException) as caught:
        client.infer("digits", [tensor])
    assert caught.value.status() == "400"
    assert caught.value.message() == "input 'pixels' has the datatype 'FP64'; expected FP32"
    with pytest.raises(InferenceServerException, match="there is no model 'letters'"):
        client.get_model_metadata("letters")
