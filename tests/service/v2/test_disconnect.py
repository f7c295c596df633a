"""Nobody computes for a client that is gone."""

from __future__ import annotations

import socket
from typing import Any

import numpy as np


def request(rows: int, name: str) -> bytes:
    """An inference by the shipped digits model."""
    pixels = np.zeros((rows, 784), np.float32).tobytes()
    text = b'{"inputs": [{"name": "pixels", "datatype": "FP32", "shape": [%d, 784], "parameters": {' % rows
    text += b'"binary_data_size": %d}}], "outputs": [{"name": "probabilities"}]}' % len(pixels)
    head = (
        "POST /v2/models/digits/infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Content-Length: {len(text) + len(pixels)}\r\nInference-Header-Content-Length: {len(text)}\r\n"
        f"X-Request-ID: {name}\r\n\r\n"
    )
    return head.encode() + text + pixels


def done(server: Any) -> dict[str, Any]:
    """What the model has done so far."""
    (statistics,) = server.client.get("/v2/models/digits/stats").json()["model_stats"]
    return dict(statistics)


def test_a_client_that_leaves_takes_its_request_out_of_the_queue(serve: Any) -> None:
    with serve("--lanes", 1) as server:
        with socket.create_connection(server.address) as busy:
            busy.sendall(request(600, "busy"))  # a second or more, in many inferences
            while not done(server)["execution_count"]:
                pass
            with socket.create_connection(server.address) as leaving:
                leaving.sendall(request(1, "left"))
                for _ in range(2):  # by now it has been read, and waits behind the other
                    assert server.client.get("/v2/health/live").status_code == 200
            assert server.logged("left")[-1]["status"] == 499
            answer = b""
            while received := busy.recv(65536):
                answer += received
        assert answer.startswith(b"HTTP/1.1 200 ")
        statistics = done(server)
        assert statistics["inference_count"] == 600
        assert [statistics["inference_stats"][name]["count"] for name in ("success", "fail")] == [1, 1]
