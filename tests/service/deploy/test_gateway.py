"""The gateway's nginx before two replicas, with the file of Compose but for addresses and folders."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.conftest import Serve, Server
from tests.service.stream_client import StreamClient

CONFIG = Path(__file__).resolve().parents[3] / "deploy" / "nginx" / "nginx.conf"
PIXELS = {"pixels": [0, 255] * 392}
CLIENTS = [f"127.0.0.{number}" for number in range(1, 25)]  # of whom each replica gets some

pytestmark = pytest.mark.skipif(
    shutil.which("nginx") is None, reason="there is no nginx: apt-get install nginx-light"
)


@dataclass
class Gateway:
    """nginx, and what is behind it."""

    address: tuple[str, int]
    replicas: list[Server]
    client: httpx.Client


def local(config: str, port: int, replicas: list[Server], folder: Path) -> str:
    """The configuration with other addresses. Debian's nginx does not resolve an upstream's names again and
    again yet, so replicas are listed.
    """
    servers = [f"server 127.0.0.1:{replica.address[1]}" for replica in replicas]
    for pattern, replacement, times in [
        (r"resolver .*", "", 1),
        (r"listen 8080;", f"listen 127.0.0.1:{port};", 1),
        (r"/tmp/", f"{folder}/", 6),  # noqa: S108
        (r"server replica:8000 resolve(.*;)", r"\1 ".join(servers) + r"\1", 2),
    ]:
        config, found = re.subn(pattern, replacement, config)
        assert found == times, pattern
    return config


@contextmanager
def running(serve: Serve, store: Path, folder: Path) -> Iterator[Gateway]:
    """Two replicas behind nginx, which is ready."""
    flags = ["--store", store, "--local-admin", "--drain-seconds", "2"]
    with serve(*flags) as first, serve(*flags) as second:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        config = folder / "nginx.conf"
        config.write_text(local(CONFIG.read_text(), port, [first, second], folder))
        user = "user root;" if os.geteuid() == 0 else ""
        process = subprocess.Popen(["nginx", "-p", folder, "-c", config, "-g", f"daemon off; {user}"])
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
                wait_for(lambda: answers(client), process)
                yield Gateway(("127.0.0.1", port), [first, second], client)
        finally:
            process.terminate()
            process.wait(timeout=30)


def wait_for(condition: Any, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/v2/health/ready").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def gateway(serve: Serve, small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running(serve, small_store, tmp_path_factory.mktemp("nginx")) as gateway:
        yield gateway


@contextmanager
def unloaded(model: str, *replicas: Server) -> Iterator[None]:
    """While it lasts, these answer 503 to what is asked of the model."""
    for replica in replicas:
        replica.client.post(f"/v2/repository/models/{model}/unload").raise_for_status()
    try:
        yield
    finally:
        for replica in replicas:
            replica.client.post(f"/v2/repository/models/{model}/load").raise_for_status()


def metric(replica: Server, sample: str) -> float:
    """Of a replica; 0 if there is no such sample yet."""
    found = re.search(rf"^{re.escape(sample)} (\S+)$", replica.client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_streams_come_back_to_their_replica(gateway: Gateway) -> None:
    begun = []
    for source in CLIENTS:
        client = StreamClient(gateway.address, source=source)
        stream = client.start(probabilities=True)["stream"]
        client.send(bytes(4000))
        begun.append((source, stream, client.message()["resume"]))
        client.cut()
    for source, stream, token in begun:
        with StreamClient(gateway.address, source=source) as client:
            client.send({"type": "resume", "token": token})
            resumed = client.message()
            assert (resumed["type"], resumed["stream"]) == ("resumed", stream)
    resumed_by = [metric(replica, "momentum_streams_resumed_total") for replica in gateway.replicas]
    assert min(resumed_by) >= 1
    assert sum(resumed_by) == len(CLIENTS)


def test_another_replica_is_asked_after_503(gateway: Gateway) -> None:
    first = gateway.replicas[0]
    with unloaded("digits", first):
        for replica, status in zip(gateway.replicas, (503, 200), strict=True):
            assert replica.client.post("/v1/digits", json=PIXELS).status_code == status
        refused = 'momentum_http_requests_total{method="POST",route="/v1/digits",status="503"}'
        before = metric(first, refused)
        assert {gateway.client.post("/v1/digits", json=PIXELS).status_code for _ in range(20)} == {200}
        assert metric(first, refused) > before


def test_a_model_that_nobody_can_run_leaves_the_others_alone(gateway: Gateway) -> None:
    with unloaded("digits", *gateway.replicas):
        for _ in range(3):
            assert gateway.client.post("/v1/digits", json=PIXELS).status_code == 503
            assert gateway.client.get("/v2/models/digits/ready").status_code == 503
            assert gateway.client.get("/v1/status").status_code == 200
            assert gateway.client.get("/v2/models/frames/ready").status_code == 200


def test_a_replica_can_be_stopped(serve: Serve, small_store: Path, tmp_path: Path) -> None:
    """It is not ready, drains, and is gone; nobody notices."""
    with running(serve, small_store, tmp_path) as gateway, ThreadPoolExecutor() as pool:
        over = threading.Event()
        seen: set[tuple[str, int]] = set()

        def ask(path: str, **body: Any) -> None:
            while not over.is_set():
                answer = gateway.client.request("POST" if body else "GET", path, **body)
                seen.add((path, answer.status_code))

        asking = [pool.submit(ask, "/v1/digits", json=PIXELS), pool.submit(ask, "/v2/health/ready")]
        try:
            assert gateway.replicas[0].stop() == 0
            for path in ("/v1/digits", "/v2/health/ready"):
                seen.discard((path, 200))
            wait_for(lambda: len(seen) >= 2, gateway.replicas[1].process)  # what is asked afterwards, too
        finally:
            over.set()
        for each in asking:
            each.result()
        assert seen == {("/v1/digits", 200), ("/v2/health/ready", 200)}
