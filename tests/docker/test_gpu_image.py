"""The image for GPUs, as far as it can be seen without one: GPU_IMAGE=1 makes `make test-docker` build it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.docker.conftest import NAME, ROOT, docker

pytestmark = pytest.mark.skipif(
    "GPU_IMAGE" not in os.environ, reason="it takes gigabytes of downloads and disk; GPU_IMAGE=1 has it built"
)
IMAGE = f"{NAME}-gpu"
# Also where NVIDIA's container runtime is the default, which would give it GPUs.
RUN = ("run", "--rm", "--read-only", "--tmpfs", "/tmp", "--env", "NVIDIA_VISIBLE_DEVICES=void")  # noqa: S108
LIBRARIES = """
import ctypes, pathlib, onnxruntime
onnxruntime.preload_dlls()
ctypes.CDLL(pathlib.Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so")
"""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """What a container of it does with a command, or without one."""
    return subprocess.run(
        ["docker", *RUN, IMAGE, *command], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module", autouse=True)
def image() -> Iterator[None]:
    docker("build", "--network", "host", "--target", "service-gpu", "--tag", IMAGE, str(ROOT), timeout=1800)
    yield
    docker("rmi", IMAGE)


@pytest.mark.timeout(1900)  # the first has it built
def test_it_refuses_to_be_slow_in_silence() -> None:
    done = run()
    assert done.returncode == 1
    said = json.loads(done.stderr.splitlines()[-1])
    assert said["event"] == "cannot start"
    assert "no NVIDIA driver" in said["reason"]
    assert "docker run --gpus all" in said["reason"]


def test_it_serves_on_cpus_where_that_is_asked_for() -> None:
    done = run("python", "-m", "service", "doctor", "--device", "cpu", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["device"], report["problems"]) == (0, "cpu", [])
    assert "CUDAExecutionProvider" in report["providers"]


def test_it_has_all_of_cuda_but_the_driver() -> None:
    done = run("python", "-c", LIBRARIES)
    assert done.stdout == ""  # where onnxruntime tells of libraries that it can't load
    assert "OSError: libcuda.so.1: cannot open shared object file" in done.stderr
