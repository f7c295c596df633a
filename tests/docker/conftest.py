"""The compose project, built and run by a real Docker engine: `make test-docker`."""

from __future__ import annotations

import copy
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

NAME = "momentum-serve-test"
REVISION = "0123456789abcdef"
ROOT = Path(__file__).resolve().parents[2]
# So that names resolve while images are built, also where the engine's own networks lead nowhere.
OVERRIDE = {
    "services": {
        "service": {"build": {"network": "host"}},
        "batch": {"build": {"network": "host"}},
        "replica": {"build": {"network": "host"}},
        "train": {"build": {"network": "host"}},
    }
}


def docker(*arguments: str, check: bool = True, timeout: float = 120) -> str:
    """Run docker; what it prints."""
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=timeout, cwd=ROOT, check=False
    )
    assert done.returncode == 0 or not check, f"docker {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout


_PROFILES = ["--profile", "train", "--profile", "batch", "--profile", "scale"]


class Project:
    """The project under a name of its own, with images and volumes of its own."""

    def __init__(self, folder: Path) -> None:
        self.port, self.gateway_port = free_port(), free_port()
        override: dict[str, Any] = copy.deepcopy(OVERRIDE)
        wheels = os.environ.get("WHEELS")  # a folder with torch's wheel, where its index is out of reach
        if wheels:
            override["services"]["train"]["build"] |= {
                "args": {"TORCH_INDEX": ""},
                "additional_contexts": {"wheels": wheels},
            }
        (folder / "override.json").write_text(json.dumps(override))
        self._files = ["-f", "docker-compose.yml", "-f", str(folder / "override.json")]
        self._environment = os.environ | {
            "COMPOSE_PROJECT_NAME": NAME,
            "IMAGE": NAME,
            "PORT": str(self.port),
            "GATEWAY_PORT": str(self.gateway_port),
            "REPLICAS": "2",
            "IMAGE_REVISION": REVISION,
            "RECIPE": "optdigits",
            "MODEL": "optdigits",
        }

    name = NAME
    image = f"{NAME}:latest"

    @contextmanager
    def setting(self, name: str, value: str) -> Iterator[None]:
        """With this variable, while the block runs."""
        self._environment[name] = value
        try:
            yield
        finally:
            del self._environment[name]

    @property
    def url(self) -> str:
        """Of the service, as the host reaches it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def gateway_url(self) -> str:
        """Of the gateway in front of the replicas."""
        return f"http://127.0.0.1:{self.gateway_port}"

    def compose(self, *arguments: str, timeout: float = 120) -> str:
        """Run docker compose; what it prints."""
        command = ["docker", "compose", *self._files, *arguments]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=ROOT,
            env=self._environment,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stdout[-5000:]}{done.stderr[-5000:]}"
        return done.stdout

    def container(self, service: str) -> str:
        """The id of a service's container."""
        return self.compose("ps", "--all", "--quiet", service).split()[0]

    def inspect(self, service: str) -> dict[str, Any]:
        """What the engine knows of a service's container."""
        found: list[dict[str, Any]] = json.loads(docker("inspect", self.container(service)))
        return found[0]


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def until(condition: Any, seconds: float = 60) -> None:
    """Wait for it."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.2)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The project, with the images built that no registry is needed for, and `docker compose up` run."""
    if (
        shutil.which("docker") is None
        or not docker("info", "--format", "{{.ServerVersion}}", check=False).strip()
    ):
        pytest.skip("no Docker engine answers: start one, or set DOCKER_HOST")
    project = Project(tmp_path_factory.mktemp("docker"))
    try:
        project.compose(*_PROFILES, "build", "service", "batch", "train", timeout=1800)
        project.compose("up", "--detach", "--no-build", "--wait")
        yield project
    finally:
        project.compose(*_PROFILES, "down", "--volumes", "--rmi", "local", "--timeout", "5")


@pytest.fixture
def client(project: Project) -> Iterator[httpx.Client]:
    """Talks to the service."""
    with httpx.Client(base_url=project.url, timeout=30, trust_env=False) as client:
        yield client
