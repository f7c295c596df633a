"""The protocol over HTTP, on a real server."""

from __future__ import annotations

import json
import time
from importlib.metadata import version
from typing import Any

import numpy as np
import pytest

from tests.service.conftest import WEIGHTS
from tests.service.small_frames import HOP

PIXELS = {"name": "pixels", "shape": [1, 3], "datatype": "FP32", "data": [0.5, 0.5, 1]}


def probabilities(total: float) -> Any:
    """What the small model answers to pixels of this sum."""
    scores = np.exp(WEIGHTS * np.float32(total))
    return scores / scores.sum()


def infer(server: Any, path: str = "/v2/models/digits/infer", **document: Any) -> Any:
    return server.client.post(path, json=document)


def test_the_server_is_described(small_server: Any) -> None:
    answer = small_server.client.get("/v2").json()
    assert (answer["name"], answer["version"]) == ("momentum-serve", version("momentum-serve"))
    for extension in ("binary_tensor_data", "sequence", "statistics", "model_repository"):
        assert extension in answer["extensions"]


@pytest.mark.parametrize("path", ["/v2/models/digits", "/v2/models/digits/versions/1"])
def test_a_model_is_described(small_server: Any, path: str) -> None:
    assert small_server.client.get(path).json() == {
        "name": "digits",
        "versions": ["1"],
        "platform": "onnx_onnxv1",
        "inputs": [
            {"name": "pixels", "datatype": "FP32", "shape": [-1, -1]},
            {"name": "lengths", "datatype": "INT32", "shape": [-1]},
        ],
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]},
            {"name": "trace", "datatype": "FP32", "shape": [-1, -1, 10]},
        ],
    }


def test_the_configuration_has_the_states(small_server: Any) -> None:
    config = small_server.client.get("/v2/models/digits/config").json()
    assert config["name"] == "digits"
    assert config["max_batch_size"] >= 1
    assert config["input"] == [
        {"name": "pixels", "data_type": "TYPE_FP32", "dims": [-1], "optional": False},
        {"name": "lengths", "data_type": "TYPE_INT32", "dims": [], "optional": True},
    ]
    (state,) = config["sequence_batching"]["state"]
    assert (state["input_name"], state["output_name"], state["dims"]) == ("h", "h_next", [1])


@pytest.mark.parametrize("path", ["/v2/models/digits/ready", "/v2/models/digits/versions/1/ready"])
def test_a_model_is_ready(small_server: Any, path: str) -> None:
    response = small_server.client.get(path)
    assert (response.status_code, response.json()) == (200, {"name": "digits", "ready": True})


@pytest.mark.parametrize("ending", ["", "/ready", "/config", "/stats", "/infer"])
@pytest.mark.parametrize("model", ["letters", "digits/versions/7", "DIGITS"])
def test_unknown_models_and_versions(small_server: Any, model: str, ending: str) -> None:
    document = {"inputs": [PIXELS]} if ending == "/infer" else None
    method = "GET" if document is None else "POST"
    response = small_server.client.request(method, f"/v2/models/{model}{ending}", json=document)
    assert response.status_code == 404
    assert set(response.json()) == {"error"}
    assert model.split("/")[0] in response.json()["error"]


@pytest.mark.parametrize("path", ["/v2/models/digits/infer", "/v2/models/digits/versions/1/infer"])
def test_inference(small_server: Any, path: str) -> None:
    response = infer(small_server, path, id="a", inputs=[PIXELS], outputs=[{"name": "probabilities"}])
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert "inference-header-content-length" not in response.headers
    answer = response.json()
    np.testing.assert_allclose(answer["outputs"][0].pop("data"), probabilities(2), atol=1e-6)
    assert answer == {
        "model_name": "digits",
        "model_version": "1",
        "id": "a",
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [1, 10]}],
    }


def test_bytes_alone(small_server: Any) -> None:
    response = small_server.client.post(
        "/v2/models/digits/infer",
        content=np.float32([0.5, 0.5, 1]).tobytes(),
        headers={"Inference-Header-Content-Length": "0"},
    )
    assert response.headers["content-type"] == "application/octet-stream"
    length = int(response.headers["inference-header-content-length"])
    first, second = json.loads(response.content[:length])["outputs"]
    assert (first["name"], second["name"]) == ("probabilities", "trace")
    assert second["parameters"] == {"binary_data_size": 120}
    tensors = np.frombuffer(response.content[length:], "<f4")
    np.testing.assert_allclose(tensors[:10], probabilities(2), atol=1e-6)


def test_states_are_inputs_and_outputs(small_server: Any) -> None:
    """A stateless client carries the state itself."""
    whole = infer(small_server, inputs=[PIXELS], outputs=[{"name": "probabilities"}]).json()
    state = {"name": "h", "shape": [1, 1], "datatype": "FP32", "data": [0]}
    for pixel in PIXELS["data"]:
        step = PIXELS | {"shape": [1, 1], "data": [pixel]}
        outputs = [{"name": "h_next"}, {"name": "probabilities"}]
        after, last = infer(small_server, inputs=[step, state], outputs=outputs).json()["outputs"]
        state = state | {"data": after["data"]}
    np.testing.assert_allclose(last["data"], whole["outputs"][0]["data"], atol=1e-6)


def test_lengths(small_server: Any) -> None:
    sound = np.zeros((2, 3 * HOP), np.float32)
    inputs = [
        {"name": "waveform", "shape": [2, 3 * HOP], "datatype": "FP32", "data": sound.ravel().tolist()},
        {"name": "lengths", "shape": [2], "datatype": "INT32", "data": [HOP, 3 * HOP]},
    ]
    path = "/v2/models/frames/infer"
    for sent, frames in ((inputs, [1, 3]), (inputs[:1], [3, 3])):
        answer = infer(small_server, path, inputs=sent, outputs=[{"name": "frames"}]).json()
        assert answer["outputs"][0]["data"] == frames


@pytest.mark.parametrize("length", [-1, 4])
def test_lengths_beyond_what_is_there(small_server: Any, length: int) -> None:
    lengths = {"name": "lengths", "shape": [1], "datatype": "INT32", "data": [length]}
    response = infer(small_server, inputs=[PIXELS, lengths])
    assert response.status_code == 400
    assert f"lengths has {length}; expected 0 to 3, the size of 'pixels'" in response.json()["error"]


def test_errors_are_the_protocols(small_server: Any) -> None:
    response = infer(small_server, inputs=[PIXELS | {"datatype": "FP64"}])
    assert (response.status_code, response.headers["content-type"]) == (400, "application/json")
    assert response.json() == {"error": "input 'pixels' has the datatype 'FP64'; expected FP32"}


def test_compressed_bodies_are_refused(small_server: Any) -> None:
    response = small_server.client.post(
        "/v2/models/digits/infer", content=b"x", headers={"Content-Encoding": "gzip"}
    )
    assert response.status_code == 415
    assert response.json() == {"error": "the body has the content encoding 'gzip'; expected none"}


def test_a_body_beyond_the_limit(small_server: Any) -> None:
    response = small_server.client.post("/v2/models/digits/infer", content=bytes(200_001))
    assert response.status_code == 413
    assert set(response.json()) == {"error"}


def test_a_time_that_is_over_before_it_begins(small_server: Any) -> None:
    response = infer(small_server, inputs=[PIXELS], parameters={"timeout": 1})
    assert response.status_code == 504
    assert set(response.json()) == {"error"}
    assert infer(small_server, inputs=[PIXELS], parameters={"timeout": 60_000_000}).status_code == 200


def test_a_state_that_no_output_was(small_server: Any) -> None:
    sound = {"name": "waveform", "shape": [1, HOP], "datatype": "FP32", "data": [0] * HOP}
    pending = {"name": "pending", "shape": [1], "datatype": "INT32", "data": [10**6]}
    response = infer(small_server, "/v2/models/frames/infer", inputs=[sound, pending])
    assert response.status_code == 400
    assert response.json()["error"].startswith("the model does not run from what is given as 'pending'")
    assert infer(small_server, "/v2/models/frames/infer", inputs=[sound]).status_code == 200


def statistics(server: Any, path: str) -> dict[str, Any]:
    (found,) = [one for one in server.client.get(path).json()["model_stats"] if one["name"] == "digits"]
    return dict(found)


@pytest.mark.parametrize("path", ["/v2/models/stats", "/v2/models/digits/stats"])
def test_statistics_count_what_happened_between_two_of_them(small_server: Any, path: str) -> None:
    before = statistics(small_server, path)
    start = time.time()
    for rows in (1, 1, 4):
        pixels = PIXELS | {"shape": [rows, 3], "data": [0.5] * 3 * rows}
        assert infer(small_server, inputs=[pixels]).status_code == 200
    after = statistics(small_server, path)
    assert after["version"] == "1"
    assert after["inference_count"] - before["inference_count"] == 6
    assert after["execution_count"] - before["execution_count"] >= 3
    assert 1000 * start - 1 <= after["last_inference"] <= 1000 * time.time() + 1
    done, done_before = after["inference_stats"], before["inference_stats"]
    for name in ("success", "queue"):
        assert done[name]["count"] - done_before[name]["count"] == 3
    assert done["fail"] == done_before["fail"]
    sizes = {batch["batch_size"]: batch["compute_infer"]["count"] for batch in after["batch_stats"]}
    assert sum(size * count for size, count in sizes.items()) == after["inference_count"]
    assert sum(sizes.values()) == after["execution_count"]
