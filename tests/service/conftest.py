"""A small artifact with the contract of the shipped one, and servers on real sockets."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.service import small_frames

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"

# What the small graph multiplies the sum of the pixels by, for each class.
WEIGHTS = np.linspace(-0.02, 0.025, 10, dtype=np.float32)


def small_graph(fragile: bool = False) -> bytes:
    """A graph with the digits contract: class scores are WEIGHTS times the sum of the pixels so far.

    A fragile one fails at run time when the sum of the pixels exceeds 100.
    """
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", "time"])
    lengths = helper.make_tensor_value_info("lengths", TensorProto.INT32, ["batch"])
    h = helper.make_tensor_value_info("h", TensorProto.FLOAT, ["batch", 1])
    outputs = [
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10]),
        helper.make_tensor_value_info("trace", TensorProto.FLOAT, ["batch", "time", 10]),
        helper.make_tensor_value_info("h_next", TensorProto.FLOAT, ["batch", 1]),
    ]
    constants = [
        numpy_helper.from_array(WEIGHTS[None], "weights"),
        numpy_helper.from_array(np.array(1, np.int64), "time_axis"),
        numpy_helper.from_array(np.array([1], np.int64), "sum_axis"),
        numpy_helper.from_array(np.array([2], np.int64), "class_axis"),
    ]
    node = helper.make_node
    nodes = [
        node("ReduceSum", ["pixels", "sum_axis"], ["sum"], keepdims=1),
        node("Add", ["sum", "h"], ["h_next"]),
        node("MatMul", ["h_next", "weights"], ["scores"]),
        node("Softmax", ["scores"], ["probabilities"], axis=-1),
        node("CumSum", ["pixels", "time_axis"], ["so_far"]),
        node("Add", ["so_far", "h"], ["all_so_far"]),
        node("Unsqueeze", ["all_so_far", "class_axis"], ["column"]),
        node("MatMul", ["column", "weights"], ["all_scores"]),
        node("Softmax", ["all_scores"], ["trace"], axis=-1),
    ]
    if fragile:  # an index out of range
        constants.append(numpy_helper.from_array(np.zeros((101, 1), np.float32), "table"))
        nodes[1:1] = [
            node("Cast", ["sum"], ["index"], to=TensorProto.INT64),
            node("Gather", ["table", "index"], ["gathered"]),
            node("Squeeze", ["gathered", "sum_axis"], ["zero"]),
            node("Add", ["h", "zero"], ["h_checked"]),
        ]
        nodes[5] = node("Add", ["sum", "h_checked"], ["h_next"])
    graph = helper.make_graph(nodes, "small", [pixels, lengths, h], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def small_card(graph: bytes, name: str, version: str) -> dict[str, Any]:
    """The card of `small_graph`."""
    scores = np.exp(WEIGHTS * 2.0)
    return {
        "schema_version": 1,
        "name": name,
        "version": version,
        "task": "digits",
        "description": "A graph for tests.",
        "labels": [str(digit) for digit in range(10)],
        "inputs": [
            {"name": "pixels", "dtype": "float32", "shape": ["batch", "time"]},
            {"name": "lengths", "dtype": "int32", "shape": ["batch"]},
        ],
        "outputs": [
            {"name": "probabilities", "dtype": "float32", "shape": ["batch", 10]},
            {"name": "trace", "dtype": "float32", "shape": ["batch", "time", 10]},
        ],
        "states": [{"name": "h", "output": "h_next", "dtype": "float32", "shape": ["batch", 1]}],
        "image_shape": [28, 28],
        "exactness": {"batched": "bitwise", "padded": "bitwise", "streamed": "rounding"},
        "metrics": [],
        "verification": {"max_difference": 0.0, "tolerance": 1e-5, "cases": []},
        "provenance": {
            "recipe": {},
            "seed": None,
            "epochs": 0,
            "data_sha256": {},
            "git_commit": None,
            "created": "2026-01-01T00:00:00Z",
            "libraries": {},
        },
        "file": {"name": "model.onnx", "sha256": hashlib.sha256(graph).hexdigest(), "bytes": len(graph)},
        "golden": {
            "inputs": {"pixels": [[0.5, 0.5, 1.0]], "lengths": [3]},
            "outputs": {"probabilities": [(scores / scores.sum()).tolist()]},
            "tolerance": 1e-5,
        },
    }


Artifact = Callable[..., Path]


@pytest.fixture(scope="session")
def fragile_graph() -> bytes:
    """A graph that fails at run time when the sum of an image's pixels exceeds 100."""
    return small_graph(fragile=True)


@pytest.fixture(scope="session")
def digit_pictures() -> dict[str, bytes]:
    """Pictures of digits in many styles and formats: file name, which begins with the digit, -> bytes."""
    return {path.name: path.read_bytes() for path in sorted((FIXTURES / "digits").iterdir())}


@pytest.fixture(scope="session")
def mnist() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """500 test images of MNIST [500, 28, 28] and their labels."""
    with np.load(FIXTURES / "mnist-test-500.npz") as arrays:
        return arrays["images"], arrays["labels"]


@pytest.fixture(scope="session")
def write_artifact() -> Artifact:
    """Write the small artifact into a store and return its folder; `change` edits the card, `graph` replaces
    the file.
    """

    def write(
        store: Path,
        name: str = "digits",
        version: str = "1",
        change: Callable[[dict[str, Any]], object] | None = None,
        graph: bytes | None = None,
    ) -> Path:
        folder = store / name / version
        folder.mkdir(parents=True)
        model = small_graph()
        card = small_card(model if graph is None else graph, name, version)
        if change is not None:
            change(card)
        (folder / "model.onnx").write_bytes(model if graph is None else graph)
        (folder / "card.json").write_text(json.dumps(card))
        return folder

    return write


@pytest.fixture(scope="session")
def small_frames_graph() -> bytes:
    """The graph of `small_frames`."""
    return small_frames.small_frames_graph()


@pytest.fixture(scope="session")
def write_frames_artifact(small_frames_graph: bytes) -> Artifact:
    """Write the small artifact of `small_frames` into a store and return its folder; `change` edits the
    card.
    """

    def write(
        store: Path,
        name: str = "frames",
        version: str = "1",
        change: Callable[[dict[str, Any]], object] | None = None,
    ) -> Path:
        folder = store / name / version
        folder.mkdir(parents=True)
        card = small_frames.small_frames_card(small_frames_graph, name, version)
        if change is not None:
            change(card)
        (folder / "model.onnx").write_bytes(small_frames_graph)
        (folder / "card.json").write_text(json.dumps(card))
        return folder

    return write


@pytest.fixture(scope="session")
def small_store(
    tmp_path_factory: pytest.TempPathFactory, write_artifact: Artifact, write_frames_artifact: Artifact
) -> Path:
    """A store that holds the small artifacts as digits version 1 and frames version 1."""
    store = tmp_path_factory.mktemp("store")
    write_artifact(store)
    write_frames_artifact(store)
    return store


@dataclass
class Server:
    """A running `python -m service`."""

    process: subprocess.Popen[str]
    url: str
    log_file: Path
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=self.url, timeout=60)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        url = httpx.URL(self.url)
        assert url.port is not None
        return url.host, url.port

    def log(self) -> list[dict[str, Any]]:
        """The lines logged so far."""
        lines = self.log_file.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def logged(self, request_id: str) -> list[dict[str, Any]]:
        """The lines of one request, once its last one is there: a request is logged after it is answered."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            lines = [line for line in self.log() if line.get("request_id") == request_id]
            if lines and lines[-1]["event"] == "request":
                return lines
            time.sleep(0.01)
        raise AssertionError(f"request {request_id} was not logged: {self.log_file.read_text()}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


Serve = Callable[..., AbstractContextManager[Server]]


def service_environment() -> dict[str, str]:
    """This process's environment without settings of the service."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MOMENTUM_")}


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """Run `python -m service` with these flags on a free port: `with serve("--store", store) as server`;
    `module` is another one that is run instead.
    """

    @contextmanager
    def run(*flags: object, module: str = "service") -> Iterator[Server]:
        log_file = tmp_path_factory.mktemp("server") / "log"
        command = [sys.executable, "-W", "error", "-m", module, "--port", "0", "--drain-seconds", "0"]
        command += map(str, flags)
        with log_file.open("w") as log:
            process = subprocess.Popen(command, stderr=log, text=True, env=service_environment())
        try:
            server = Server(process, _wait_for_url(process, log_file), log_file)
            with server.client:
                yield server
        finally:
            process.terminate()
            process.wait(timeout=60)

    return run


def _wait_for_url(process: subprocess.Popen[str], log_file: Path) -> str:
    while process.poll() is None:
        for line in log_file.read_text().splitlines():
            if line.endswith("}") and (event := json.loads(line))["event"] == "serving":
                return str(event["url"])
        try:
            process.wait(timeout=0.02)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError(f"the server exited with {process.returncode}: {log_file.read_text()}")


@pytest.fixture(scope="session")
def small_server(serve: Serve, small_store: Path) -> Iterator[Server]:
    """A server of the small artifact, with small limits, that programs here may administer."""
    limits = ("--max-body-bytes", 200_000, "--max-image-pixels", 1_000_000, "--max-batch", 8)
    with serve("--store", small_store, "--local-admin", *limits) as server:
        yield server


@pytest.fixture(scope="session")
def server(serve: Serve) -> Iterator[Server]:
    """A server of the shipped models, with default settings but for who may administer it."""
    with serve("--local-admin") as running:
        yield running
