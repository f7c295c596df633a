"""What `docker compose up` gives: answers, safety, and new models without a dropped request."""

from __future__ import annotations

import concurrent.futures
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import wave
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
from pyarrow import parquet

from tests.docker.conftest import REVISION, ROOT, Project, docker, until

SEVEN = ROOT / "docs" / "images" / "seven.jpg"
RECORDING = ROOT / "docs" / "audio" / "seven.wav"
MEGABYTE = 10**6
# Above a base of 125 to 130 MB the image stays under 350.
MOST_ABOVE_BASE = 220 * MEGABYTE


def test_a_digit_is_read(client: httpx.Client) -> None:
    answer = client.post("/v1/digits", content=SEVEN.read_bytes())
    assert answer.json()["digit"] == 7


def test_a_recording_is_streamed(project: Project) -> None:
    url = f"ws://127.0.0.1:{project.port}/v1/frames/stream"
    command = [sys.executable, "-m", "service", "stream", str(RECORDING), "--url", url, "--speed", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=True)
    assert "result: 7 " in done.stdout


def test_it_may_do_nothing_but_serve(project: Project) -> None:
    def inside(script: str) -> str:
        return docker("exec", project.container("service"), "sh", "-c", f"{script} 2>&1 || true")

    assert inside("id -u").strip() == "10001"
    assert "Read-only file system" in inside("touch /etc/x")
    assert "Read-only file system" in inside("touch $MOMENTUM_STORE/x")
    status = inside("cat /proc/1/status")
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    for absent in ("import torch", "import lightning", "import pip"):
        assert "ModuleNotFoundError" in inside(f"python -c '{absent}'")
    for absent in ("gcc", "g++", "cc"):
        assert inside(f"command -v {absent}") == ""


def test_its_health_is_its_readiness(project: Project) -> None:
    assert project.inspect("service")["State"]["Health"]["Status"] == "healthy"
    alone = docker("run", "--rm", project.image, "sh", "-c", "python /usr/local/bin/ready.py; echo $?")
    assert alone.splitlines()[-1] == "1"  # nothing serves there


def test_it_says_what_it_is(project: Project) -> None:
    (image,) = json.loads(docker("inspect", project.image))
    assert image["Config"]["User"] == "10001:10001"
    labels = image["Config"]["Labels"]
    assert labels["org.opencontainers.image.title"] == "Momentum Serve"
    assert labels["org.opencontainers.image.version"] == version("momentum-serve")
    assert labels["org.opencontainers.image.revision"] == REVISION


def test_the_image_is_small(project: Project) -> None:
    form = ["--no-trunc", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}"]
    history = docker("history", *form, project.image)
    layers = [(int(size), by) for size, _, by in (line.partition(" ") for line in history.splitlines())]
    ours = layers[: next(index for index, (_, by) in enumerate(layers) if "groupadd" in by) + 1]
    assert 50 * MEGABYTE < sum(size for size, _ in ours) < MOST_ABOVE_BASE


def silence(seconds: int) -> bytes:
    """A recording in which nothing is said."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 8000 * seconds))
    return buffer.getvalue()


def test_it_ends_when_it_has_answered(project: Project, client: httpx.Client) -> None:
    with concurrent.futures.ThreadPoolExecutor() as pool:
        asked = pool.submit(client.post, "/v1/frames", content=silence(590))
        time.sleep(0.3)
        assert not asked.done()
        stopped = pool.submit(project.compose, "stop", "service")
        answer = asked.result()
        stopped.result()
    assert answer.status_code == 200
    assert len(answer.json()["labels"]) == 59_000
    state = project.inspect("service")["State"]
    assert (state["Status"], state["ExitCode"], state["OOMKilled"]) == ("exited", 0, False)
    project.compose("up", "--detach", "--no-build", "--wait")


@pytest.mark.parametrize("user", sorted({os.getuid(), os.getuid() or 10001}))  # not as root alone
def test_files_are_classified(project: Project, tmp_path: Path, user: int) -> None:
    """`docker compose run batch`, as the user whose files they are."""
    shutil.copy(SEVEN, tmp_path)
    os.chown(tmp_path, user, -1)
    with project.setting("FILES", str(tmp_path)):
        flags = ["--rm", "--no-TTY", "--user", f"{user}:{user}"]
        project.compose("run", *flags, "batch", ".", "--out", "results.parquet")
    (row,) = parquet.read_table(tmp_path / "results.parquet").to_pylist()
    assert (row["path"], row["label"], row["error"]) == (SEVEN.name, "7", None)
    assert (tmp_path / "results.parquet").stat().st_uid == user


class Asking:
    """Asks a model for as long as the block lasts, and keeps what was answered."""

    def __init__(self, url: str, payload: dict[str, Any]) -> None:
        self.answers: list[tuple[int, str]] = []
        self._url, self._payload = url, payload
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        with httpx.Client(timeout=30, trust_env=False) as client:
            while not self._stop.is_set():
                answer = client.post(self._url, json=self._payload)
                said = answer.json().get("model_version", "") if answer.status_code == 200 else answer.text
                self.answers.append((answer.status_code, said))
                time.sleep(0.01)

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def train(project: Project) -> None:
    """The one command, with little to do."""
    project.compose("run", "--rm", "-T", "train", "train", "--trainer.max_epochs", "1", timeout=600)


def test_training_gives_the_running_service_a_new_version(project: Project, client: httpx.Client) -> None:
    train(project)
    until(lambda: client.get("/v2/models/optdigits/versions/1/ready").status_code == 200)
    pixels = {"name": "pixels", "datatype": "FP32", "shape": [1, 64], "data": [[0.5] * 64]}
    with Asking(f"{project.url}/v2/models/optdigits/infer", {"inputs": [pixels]}) as asking:
        project.compose("run", "--rm", "-T", "train", "sh", "-c", "rm -r runs/*")
        train(project)
        until(lambda: client.get("/v2/models/optdigits/versions/2/ready").status_code == 200)
        until(lambda: asking.answers[-1] == (200, "2"))
    assert set(asking.answers) == {(200, "1"), (200, "2")}
    versions = [version for _, version in asking.answers]
    assert versions == sorted(versions)

    # The volume outlives the containers.
    project.compose("down")
    project.compose("up", "--detach", "--no-build", "--wait")
    assert set(client.get("/v2/models/optdigits").json()["versions"]) == {"1", "2"}


def test_replicas_can_be_stopped_one_by_one(project: Project) -> None:
    config = json.loads(project.compose("--profile", "scale", "config", "--format", "json"))
    image = config["services"]["gateway"]["image"]
    if not (docker("images", "--quiet", image) or docker("pull", "--quiet", image, check=False)):
        pytest.skip(f"there is no image {image}, and no registry to have it from; NGINX_IMAGE names another")
    project.compose("--profile", "scale", "up", "--detach", "--no-build", "--wait", "replica", "gateway")
    pixels = {"pixels": [0] * 300 + [255] * 100 + [0] * 384}
    url = f"{project.gateway_url}/v1/digits"
    with Asking(url, pixels) as asking:
        for container in project.compose("--profile", "scale", "ps", "--quiet", "replica").split():
            before = len(asking.answers)
            docker("stop", "--time", "60", container)
            docker("start", container)
            until(partial(is_healthy, container))
            assert len(asking.answers) > before
    assert set(asking.answers) == {(200, "")}


def is_healthy(container: str) -> bool:
    """Whether a container's health check passes."""
    return docker("inspect", "--format", "{{.State.Health.Status}}", container).strip() == "healthy"


@pytest.mark.skipif(shutil.which("docker") is None, reason="there is no docker compose")
def test_what_momentum_env_says_holds(tmp_path: Path) -> None:
    """Of the keys too, which API_KEYS is another way to give."""
    (tmp_path / "momentum.env").write_text("MOMENTUM_API_KEYS=/own\nMOMENTUM_LANES=3\n")
    files = ["--project-directory", str(tmp_path), "--file", str(ROOT / "docker-compose.yml")]
    config = json.loads(docker("compose", *files, "config", "--format", "json"))
    environment = config["services"]["service"]["environment"]
    assert environment == {"MOMENTUM_API_KEYS": "/own", "MOMENTUM_LANES": "3"}


def test_a_store_gets_newer_shipped_models(project: Project) -> None:
    volume = f"{project.name}_store:/store"
    said = docker("run", "--rm", "--volume", volume, project.image, "fill-store", "/store")
    assert said.splitlines() == ["digits/1 is there", "frames/1 is there"]
    said = docker("run", "--rm", "--tmpfs", "/store:uid=10001", project.image, "fill-store", "/store")
    assert said.splitlines() == ["digits/1 is new", "frames/1 is new"]


def test_keys_come_from_a_file(project: Project, tmp_path: Path) -> None:
    """`API_KEYS=FILE docker compose up`."""
    created = subprocess.run(
        [sys.executable, "-m", "service", "keys", "new", "someone", "--file", str(tmp_path / "keys")],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    (tmp_path / "keys").chmod(0o644)  # the container's user reads it
    with project.setting("API_KEYS", str(tmp_path / "keys")):
        project.compose("up", "--detach", "--no-build", "--wait")
        with httpx.Client(base_url=project.url, trust_env=False) as client:
            assert client.post("/v1/digits", content=SEVEN.read_bytes()).status_code == 401
            headers = {"Authorization": f"Bearer {created.stdout.strip()}"}
            assert client.post("/v1/digits", content=SEVEN.read_bytes(), headers=headers).json()["digit"] == 7
    project.compose("up", "--detach", "--no-build", "--wait")
