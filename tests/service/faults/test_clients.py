"""Clients that leave, or do not read. (triton#3581, LitServe#452, ray#21438: what nobody waits for is run,
or is kept.)
"""

from __future__ import annotations

import json
import re
import socket
import struct
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.service.faults.launcher import Fault
from tests.service.faults.load import question, wait_until

PIXELS = [0, 1] * 392


def request(path: str, body: bytes, headers: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def connect(stack: ExitStack, server: Any, receive_bytes: int | None = None) -> socket.socket:
    connection = stack.enter_context(socket.socket())
    connection.settimeout(60)
    if receive_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.connect(server.address)
    return connection


def queue(server: Any) -> dict[str, int]:
    return dict(server.client.get("/v1/status").json()["queue"])


def kinds(digit_pictures: dict[str, bytes]) -> dict[str, bytes]:
    """A request of each kind that runs a model."""
    sequence = question(3.0) | {"parameters": {"sequence_id": "left", "sequence_start": True}}
    tensor = {"name": "pixels", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
    text = json.dumps({"inputs": [tensor]}).encode()
    length = f"Inference-Header-Content-Length: {len(text)}\r\n"
    infer = "/v2/models/digits/infer"
    return {
        "JSON": request("/v1/digits", json.dumps({"pixels": PIXELS}).encode()),
        "image": request("/v1/digits", next(iter(digit_pictures.values())), "Content-Type: image/png\r\n"),
        "v2": request(infer, json.dumps(question(3.0)).encode()),
        "v2 binary": request(infer, text + np.ones(2, np.float32).tobytes(), length),
        "v2 sequence": request(infer, json.dumps(sequence).encode()),
    }


@pytest.mark.parametrize("reset", [True, False])
def test_what_nobody_waits_for_is_not_run(
    serve_faulty: Any, small_store: Path, digit_pictures: dict[str, bytes], reset: bool
) -> None:
    requests = kinds(digit_pictures)
    with serve_faulty("--store", small_store, "--lanes", 1) as server, ExitStack() as stack:
        server.process.send_signal(Fault.HOLD)
        running = connect(stack, server)
        running.sendall(requests["v2"])
        wait_until(lambda: server.client.get("/v1/status").json()["lanes"]["running"] == 1, "running")
        leaving = [connect(stack, server) for _ in 2 * [*requests]]
        for connection, whole in zip(leaving, 2 * [*requests.values()], strict=True):
            connection.sendall(whole)
        # of a sequence one request waits in the queue at a time
        wait_until(lambda: queue(server)["requests"] >= len(leaving) - 1, "all wait")
        for connection in leaving:
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        wait_until(lambda: queue(server)["requests"] == queue(server)["rows"] == 0, "empty")
        assert queue(server)["bytes"] == 0
        server.process.send_signal(Fault.RELEASE)
        assert running.recv(65536).startswith(b"HTTP/1.1 200 ")
        (done,) = server.client.get("/v2/models/digits/stats").json()["model_stats"]
        assert done["inference_count"] == 1


def test_answers_that_are_not_read_are_not_kept(serve_faulty: Any, small_store: Path) -> None:
    clients, rows = 6, 64  # an answer has half a million probabilities, more bytes than the system takes
    pixels = np.ones((rows, 784), np.float32)
    tensor = {"name": "pixels", "shape": pixels.shape, "datatype": "FP32"}
    tensor["parameters"] = {"binary_data_size": pixels.nbytes}
    text = json.dumps({"inputs": [tensor], "outputs": [{"name": "trace"}]}).encode()
    whole = request(
        "/v2/models/digits/infer",
        text + pixels.tobytes(),
        f"Inference-Header-Content-Length: {len(text)}\r\n",
    )
    with serve_faulty("--store", small_store, "--answer-seconds", 1) as server:
        memory = []
        for round_ in range(1, 4):
            with ExitStack() as stack:
                for _ in range(clients):
                    connect(stack, server, 4096).sendall(whole)
                wait_until(lambda: cut_off(server) == round_ * clients, "all are cut off")  # noqa: B023
            memory.append(resident(server))
        assert memory[-1] - memory[0] < clients * 5e6  # which is less than one round of answers


def cut_off(server: Any) -> int:
    found = re.search(r'{reason="answer_stalled"} (\d+)', server.client.get("/metrics").text)
    assert found is not None
    return int(found[1])


def resident(server: Any) -> int:
    """The memory of the server's process, bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return 1024 * int(found[1])
