"""Sequences over HTTP; what they promise is tested in tests/service/streams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from service.http.keys import Access, add

PATH = "/v2/models/digits/infer"


def step(server: Any, pixels: list[float], path: str = PATH, **parameters: Any) -> Any:
    tensor = {"name": "pixels", "shape": [1, len(pixels)], "datatype": "FP32", "data": pixels}
    outputs = [{"name": "h_next"}]
    return server.client.post(path, json={"inputs": [tensor], "outputs": outputs, "parameters": parameters})


def sums(response: Any) -> float:
    """The state of the small model: the sum of all pixels so far."""
    assert response.status_code == 200, response.text
    return float(response.json()["outputs"][0]["data"][0])


def test_a_sequence_carries_the_state(small_server: Any) -> None:
    answers = [
        step(small_server, [1, 2], sequence_id="s", sequence_start=True),
        step(small_server, [3], sequence_id="s"),
        step(small_server, [4], sequence_id="s", sequence_end=True),
    ]
    np.testing.assert_allclose([sums(answer) for answer in answers], [3, 6, 10])


def test_names_of_sequences_are_text_or_numbers(small_server: Any) -> None:
    sums(step(small_server, [1], sequence_id="5", sequence_start=True))
    sums(step(small_server, [100], sequence_id=5, sequence_start=True))
    assert sums(step(small_server, [1], sequence_id="5", sequence_end=True)) == 2
    assert sums(step(small_server, [1], sequence_id=5, sequence_end=True)) == 101


def test_a_start_begins_anew(small_server: Any) -> None:
    sums(step(small_server, [1], sequence_id="anew", sequence_start=True))
    assert sums(step(small_server, [2], sequence_id="anew", sequence_start=True, sequence_end=True)) == 2


def test_a_sequence_without_a_start(small_server: Any) -> None:
    response = step(small_server, [1], sequence_id="lost")
    assert response.status_code == 400
    assert response.json() == {
        "error": "sequence 'lost' of model digits is not known; it must be started with sequence_start"
    }


def test_a_sequence_of_another_version(small_server: Any) -> None:
    sums(step(small_server, [1], sequence_id="version", sequence_start=True))
    response = step(small_server, [1], "/v2/models/digits/versions/2/infer", sequence_id="version")
    assert response.status_code == 400
    assert "was started on version 1 and keeps to it" in response.json()["error"]
    sums(step(small_server, [1], sequence_id="version", sequence_end=True))


def test_as_many_as_the_server_takes(serve: Any, small_store: Any) -> None:
    with serve("--store", small_store, "--max-streams", 1) as server:
        sums(step(server, [1], sequence_id="first", sequence_start=True))
        response = step(server, [1], sequence_id="second", sequence_start=True)
        assert response.status_code == 429
        assert int(response.headers["retry-after"]) >= 1
        assert response.json() == {"error": "1 streams are open, as many as this server takes"}
        sums(step(server, [1], sequence_id="first", sequence_end=True))
        sums(step(server, [1], sequence_id="second", sequence_start=True))


def test_sequences_of_another_key_are_out_of_reach(serve: Any, small_store: Any, tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    mine, others = (add(path, name, frozenset({Access.INFER}), None, None) for name in ("mine", "others"))
    with serve("--store", small_store, "--api-keys", path) as server:
        server.client.headers["X-API-Key"] = mine
        assert sums(step(server, [1], sequence_id="s", sequence_start=True)) == 1
        server.client.headers["X-API-Key"] = others
        assert step(server, [1], sequence_id="s").status_code == 400
        assert sums(step(server, [5], sequence_id="s", sequence_start=True)) == 5
        server.client.headers["X-API-Key"] = mine
        assert sums(step(server, [1], sequence_id="s", sequence_end=True)) == 2
