"""The service on Ray Serve, as a cluster of this machine alone."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.service.conftest import Server, service_environment
from tests.service.stream_client import StreamClient

ROOT = Path(__file__).parents[3]
RAY = ROOT / ".venv" / "ray" / "bin"
CONFIG = ROOT / "deploy" / "ray" / "serve.yaml"
SEVEN = (ROOT / "docs" / "images" / "seven.jpg").read_bytes()
AUDIO = (ROOT / "docs" / "audio" / "digits.wav").read_bytes()[44:]
STREAMS = 8  # Ray gives each to the replica that has fewer of two: both get some
READY_SECONDS = 120
SOON = {
    "max_replicas": 2,
    "metrics_interval_s": 0.5,
    "look_back_period_s": 2,
    "upscale_delay_s": 0,
    "downscale_delay_s": 1,
}

pytestmark = pytest.mark.skipif(
    not (RAY / "serve").exists() and os.environ.get("CI") != "true",
    reason="Ray is not set up: make .venv/ray.stamp",
)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])


class Cluster:
    """A Ray node, and commands that use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        self.environment = service_environment() | {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",  # 15, Ray's own, starves it beside the other tests
            "RAY_TMPDIR": str(folder),
            # Who reaches a cluster without a token can run code in it.
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_DEDUP_LOGS": "0",
            "MOMENTUM_LOG_FORMAT": "json",
            "PATH": f"{RAY}:{os.environ['PATH']}",
        }

    def start(self, name: str, *arguments: str) -> tuple[subprocess.Popen[str], Path]:
        """Start a command; its output goes to a file."""
        log = self.folder / f"{name}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [RAY / arguments[0], *arguments[1:]],
                cwd=ROOT,
                env=self.environment,
                text=True,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A background job's children ignore Ctrl-C otherwise.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        return process, log

    @contextmanager
    def serving(self, name: str, target: str, port: int) -> Iterator[Path]:
        """`serve run`, from when it is ready until Ctrl-C has ended it."""
        process, log = self.start(name, "serve", "run", "--address", self.address, target)
        try:
            await_ready(process, log, port)
            yield log
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()


def await_ready(process: subprocess.Popen[str], log: Path, port: int) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"http://127.0.0.1:{port}/v2/health/ready", timeout=10).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # Ray has sockets in there, whose paths may be a hundred characters long.
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    cluster = Cluster(folder)
    process, log = cluster.start(
        "ray",
        *("ray", "start", "--head", "--block", "--num-cpus", "2", "--port", cluster.address.split(":")[1]),
        *("--object-store-memory", str(100 * 2**20), "--ray-client-server-port", str(free_port())),
        *("--include-dashboard=false", "--disable-usage-stats"),
    )
    try:
        deadline = time.monotonic() + READY_SECONDS
        while "Ray runtime started" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield cluster
    finally:
        process.terminate()
        process.wait(timeout=60)
        shutil.rmtree(folder)


def test_the_config_is_what_the_code_says(tmp_path: Path) -> None:
    built = tmp_path / "serve.yaml"
    subprocess.run(
        [RAY / "serve", "build", "service.ray:app", "-o", built],
        cwd=ROOT,
        env=service_environment() | {"RAY_USAGE_STATS_ENABLED": "0"},
        check=True,
        capture_output=True,
        timeout=READY_SECONDS,
    )
    (ours,), (theirs,) = (yaml.safe_load(path.read_text())["applications"] for path in (CONFIG, built))
    assert ours["import_path"] == theirs["import_path"]
    assert ours["deployments"] == theirs["deployments"]


def test_replicas_follow_the_queues() -> None:
    """Three replicas that are idle, busy, flooded; of which one has told, and none has."""
    code = """
from types import SimpleNamespace
from service.ray.application import replicas
for loads in [0, 0, 0], [0.75, 0.75, 0.75], [4, 4, 4], [4], []:
    told = {"load": dict(enumerate(loads))}
    context = SimpleNamespace(aggregated_metrics=told, current_num_replicas=3, target_num_replicas=3)
    print(replicas(context)[0])
"""
    run = subprocess.run(
        [RAY / "python", "-c", code], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
    )
    assert run.stdout.split() == ["0", "3", "15", "15", "3"]


@pytest.mark.timeout(600)
def test_serves_as_a_single_server_does(cluster: Cluster, server: Server) -> None:
    """`serve run service.ray:app`, with a replica a model."""
    port = free_port()
    process, log = cluster.start(
        "start", "serve", "start", "--address", cluster.address, "--http-port", str(port)
    )
    assert process.wait(timeout=READY_SECONDS) == 0, log.read_text()
    with (
        cluster.serving("app", "service.ray:app", port),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        for path, body in [
            ("/v1/digits?trace=28", SEVEN),
            ("/v1/digits", b"not an image"),
            ("/v1/frames", (ROOT / "docs" / "audio" / "seven.wav").read_bytes()),
            ("/v1/frames?format=csv", (ROOT / "docs" / "audio" / "seven.wav").read_bytes()),
            ("/v2/models/frames/infer", b"{}"),
            ("/v1/nothing", b""),
        ]:
            ours, single = (each.post(path, content=body) for each in (client, server.client))
            assert (ours.status_code, said(ours)) == (single.status_code, said(single)), path
            assert len(ours.headers.get_list("x-request-id")) == 1
        for path in ("/v2/models/digits", "/v2/models/frames", "/openapi.json", "/"):
            assert client.get(path).content == server.client.get(path).content, path
        assert client.get("/v2/models/letters").status_code == 404
        forged = client.post("/v1/digits", content=SEVEN, headers={"X-Momentum-Lease": "mine"})
        assert forged.status_code == 200
        refused = client.get("/metrics")
        assert refused.status_code == 501
        assert refused.json()["detail"] == "/metrics is about a single server, and here may be several"


@pytest.fixture(scope="module")
def configured(cluster: Cluster) -> Iterator[tuple[Path, int]]:
    """The config file served, but for its address, for the two CPUs that there are, and sooner to have a
    second replica: where it logs, and its port.
    """
    port = free_port()
    config = yaml.safe_load(CONFIG.read_text())
    config["http_options"] = {"host": "127.0.0.1", "port": port}
    for deployment in config["applications"][0]["deployments"]:
        if deployment["name"] != "ingress":
            deployment["ray_actor_options"]["num_cpus"] = 0.5
        if deployment["name"] == "frames":
            deployment["autoscaling_config"]["min_replicas"] = 2
        if deployment["name"] == "digits":
            deployment["autoscaling_config"] |= SOON
    target = cluster.folder / "serve.yaml"
    target.write_text(yaml.safe_dump(config))
    with cluster.serving("config", str(target), port) as log:
        yield log, port


@pytest.mark.timeout(600)
def test_what_waits_brings_another_replica(configured: tuple[Path, int]) -> None:
    """And when nothing does any more, one of the two goes."""
    log, port = configured
    wait_for(lambda: replicas(log, "serving", "digits"), log)  # what is logged comes a little later
    assert len(replicas(log, "serving", "digits")) == 1
    images = {"images": [[0, 255] * 392] * 32}
    answers: set[int] = set()
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            while not over.is_set():
                answers.add(client.post("/v1/digits", json=images).status_code)

    with ThreadPoolExecutor() as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        try:
            wait_for(lambda: len(replicas(log, "serving", "digits")) >= 2, log)
        finally:
            over.set()
        for each in asking:
            each.result()
    assert answers <= {200, 429}

    def serving() -> set[str]:
        return replicas(log, "serving", "digits") - replicas(log, "stopping", "digits")

    wait_for(lambda: len(serving()) == 1, log)
    assert httpx.post(f"http://127.0.0.1:{port}/v1/digits", json=images, timeout=60).status_code == 200


@pytest.mark.timeout(600)
def test_streams_come_back_to_their_replica(configured: tuple[Path, int], server: Server) -> None:
    log, port = configured
    wait_for(lambda: len(replicas(log, "serving")) >= 2, log)
    time.sleep(2)  # until the ingress has heard of them
    expected = heard(server.address)
    assert heard(("127.0.0.1", port)) == expected
    clients = [StreamClient(("127.0.0.1", port)) for _ in range(STREAMS)]
    begun = []
    for client in clients:
        name = client.start(probabilities=True)["stream"]
        client.send(AUDIO[:4000])
        begun.append((name, client.message()))
    for client in clients:
        client.cut()
    for name, first in begun:
        with StreamClient(("127.0.0.1", port)) as client:
            client.send({"type": "resume", "token": first["resume"]})
            resumed = client.message()
            assert (resumed["type"], resumed["stream"]) == ("resumed", name)
            messages = finish(client, AUDIO[2 * resumed["samples"] :])
        assert joined([first, *messages]) == expected
    with StreamClient(("127.0.0.1", port)) as client:
        client.send({"type": "resume", "token": "none.of.1"})
        error, code = client.error()
        assert (error["code"], code) == ("unknown_stream", 4404)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
        # What became of it only its replica knows.
        name, first = begun[0]
        answer = http.get(f"/v1/streams/{name}/state", headers={"Authorization": f"Bearer {first['resume']}"})
        assert answer.status_code == 409, answer.text
        assert answer.json()["title"] == "Not movable"
    assert len(replicas(log, "stream")) == 2, "both had streams"


def wait_for(condition: Callable[[], object], log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def replicas(log: Path, event: str, model: str = "frames") -> set[str]:
    """Which replicas of a model have logged an event."""
    return set(re.findall(rf'{model} pid=(\d+)\).*"event":"{event}"', log.read_text()))


def said(answer: httpx.Response) -> Any:
    """An answer without what differs between two of the same."""
    if "json" not in answer.headers["content-type"]:
        return answer.content
    return {name: value for name, value in answer.json().items() if name not in ("milliseconds", "instance")}


def heard(address: tuple[str, int]) -> dict[str, list[Any]]:
    """What a server hears in a file, sent as it is said but faster."""
    with StreamClient(address) as client:
        client.start(probabilities=True)
        return joined(finish(client, AUDIO))


def finish(client: StreamClient, audio: bytes) -> list[dict[str, Any]]:
    """Send the rest of a file, and return what is heard in it."""
    for begin in range(0, len(audio), 1600):
        client.send(audio[begin : begin + 1600])
    client.send({"type": "finish"})
    messages, closed = client.rest()
    assert closed.code == 1000
    return messages


def joined(messages: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """What messages say, however the frames are cut into messages."""
    frames = [message for message in messages if message["type"] == "frames"]
    others = [message for message in messages if message["type"] != "frames"]
    return {
        "labels": [label for message in frames for label in message["labels"]],
        "posteriors": [row for message in frames for row in message["posteriors"]],
        "others": [{name: value for name, value in other.items() if name != "resume"} for other in others],
    }
