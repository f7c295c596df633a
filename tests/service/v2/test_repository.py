"""Versions come and go while the server runs, as NVIDIA's client for Triton sees it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from tests.service.generated import check_generated


@pytest.fixture
def store(tmp_path: Path, write_artifact: Any) -> Path:
    write_artifact(tmp_path)
    write_artifact(tmp_path, name="letters")
    return tmp_path


@pytest.fixture
def server(serve: Any, store: Path) -> Iterator[Any]:
    with serve("--store", store, "--local-admin") as running:
        yield running


@pytest.fixture
def client(server: Any) -> Iterator[InferenceServerClient]:
    with InferenceServerClient("{}:{}".format(*server.address)) as client:
        yield client


def states(client: InferenceServerClient) -> dict[tuple[str, str], str]:
    return {
        (entry["name"], entry["version"]): entry["state"] for entry in client.get_model_repository_index()
    }


def infer(client: InferenceServerClient, **options: Any) -> tuple[str, float]:
    """The version that answers a single pixel of 1, and the sum of all pixels so far."""
    pixels = InferInput("pixels", [1, 1], "FP32")
    pixels.set_data_from_numpy(np.float32([[1]]))
    result = client.infer("digits", [pixels], outputs=[InferRequestedOutput("h_next")], **options)
    return result.get_response()["model_version"], float(result.as_numpy("h_next")[0, 0])


def test_unload_and_load(client: InferenceServerClient, server: Any) -> None:
    assert states(client) == {("digits", "1"): "READY", ("letters", "1"): "READY"}
    client.unload_model("letters")
    assert not client.is_model_ready("letters")
    response = server.client.get("/v2/models/letters/ready")
    assert (response.status_code, response.json()) == (503, {"name": "letters", "ready": False})
    assert client.is_server_ready()  # it was meant
    (entry,) = [entry for entry in client.get_model_repository_index() if entry["name"] == "letters"]
    assert (entry["state"], entry["reason"]) == ("UNAVAILABLE", "unloaded")
    ready = server.client.post("/v2/repository/index", json={"ready": True}).json()
    assert [entry["name"] for entry in ready] == ["digits"]
    client.load_model("letters")
    assert client.is_model_ready("letters")


def test_a_new_version_answers_while_sequences_keep_to_theirs(
    client: InferenceServerClient, store: Path, write_artifact: Any
) -> None:
    assert infer(client, sequence_id=7, sequence_start=True) == ("1", 1)
    write_artifact(store, version="2")
    client.load_model("digits")
    assert infer(client) == ("2", 1)
    assert infer(client, model_version="1") == ("1", 1)
    assert client.get_model_metadata("digits")["versions"] == ["1", "2"]
    assert infer(client, sequence_id=7) == ("1", 2)
    assert infer(client, sequence_id=8, sequence_start=True, sequence_end=True) == ("2", 1)
    assert infer(client, sequence_id=7, sequence_end=True) == ("1", 3)
    counted = client.get_inference_statistics("digits")["model_stats"]
    assert {one["version"]: one["inference_count"] for one in counted} == {"1": 4, "2": 2}


def test_a_broken_version_changes_nothing_and_is_named(
    client: InferenceServerClient, store: Path, write_artifact: Any
) -> None:
    graph = write_artifact(store, version="2") / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:50])
    client.load_model("digits")
    assert infer(client) == ("1", 1)
    (entry,) = [one for one in client.get_model_repository_index() if one["version"] == "2"]
    assert entry["state"] == "UNAVAILABLE"
    assert "has 50 bytes, the card says" in entry["reason"]
    with pytest.raises(InferenceServerException, match="has 50 bytes, the card says") as caught:
        infer(client, model_version="2")
    assert caught.value.status() == "503"


def test_what_cannot_be_loaded_or_unloaded(client: InferenceServerClient) -> None:
    for change in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="there is no model 'numbers'") as caught:
            change("numbers")
        assert caught.value.status() == "404"
    with pytest.raises(InferenceServerException, match="expected none: models come from the store") as caught:
        client.load_model("digits", config="{}")
    assert caught.value.status() == "400"


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_generated_requests_get_documented_answers(server: Any, verb: str) -> None:
    check_generated(server, f"/v2/repository/models/{{model}}/{verb}", examples=20, model="letters")


def test_bodies_that_are_long(server: Any) -> None:
    """Names that a client made up are not repeated at length, and so much JSON is not even read."""
    path = "/v2/repository/index"
    name = "x" * 1000
    error = server.client.post(path, json={name: 1}).json()["error"]
    assert error == f"the body has '{'x' * 40}...'; expected ready or nothing"
    error = server.client.post(path, content=b"[" + b"[]," * 2**15 + b"[]]").json()["error"]
    assert error == f"the body has {3 * 2**15 + 4} bytes; expected at most 65536"
