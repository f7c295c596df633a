"""The contestants, and how one is started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from benchmarks.serving import client, digits, payloads, ports
from benchmarks.serving.environments import UnavailableError, python, version
from benchmarks.serving.payloads import Payload, Sample
from benchmarks.serving.processes import end_descendants

ROOT = Path(__file__).resolve().parents[2]
OURS = "momentum-serve"
START_SECONDS, STOP_SECONDS = 120.0, 20.0


@dataclass(frozen=True)
class Server:
    """A contestant.

    Attributes:
        name: of it; a peer's module and requirements are called so.
        settings: in words.
        payloads: in which it is asked.
        interpreter: of Python, if not this one.
        program: that has to be on the machine besides.
    """

    name: str
    settings: str
    payloads: tuple[Payload, ...]
    interpreter: str | None = None
    program: str | None = None

    @property
    def ours(self) -> bool:
        """Whether it is this project's."""
        return self.name == OURS

    @property
    def version(self) -> str:
        """For the tables."""
        return metadata.version(OURS) if self.ours else version(self.name)


SERVERS = (
    Server(
        "fastapi",
        "2 uvicorn workers, no batching",
        (payloads.json("/json"), payloads.raw("/raw")),
    ),
    Server(
        "litserve",
        "2 workers, 2 API processes, batch 32, 2 ms",
        (payloads.json("/predict"), payloads.raw("/predict")),
    ),
    Server(
        "bentoml",
        "2 workers, batch 32, adaptive, uvloop added",
        (payloads.json_batch("/json"), payloads.base64_batch("/base64")),
    ),
    Server(
        "mlserver",
        "in process, 2 threads, batch 32, 0.5 ms",
        (payloads.v2_json(), payloads.v2_base64()),
    ),
    Server(
        OURS,
        "defaults, logging warnings only",
        (payloads.v2_binary(), payloads.json("/v1/digits"), payloads.v2_json(), payloads.png("/v1/digits")),
    ),
    Server(
        "ray",
        "2 replicas, batch 32, 5 ms, HAProxy, optimized for throughput",
        (payloads.json("/"), payloads.raw("/")),
    ),
    Server(
        "pytriton",
        "2 instances, batch 32, 0.5 ms",
        (payloads.v2_json(), payloads.v2_binary()),
        interpreter="/usr/bin/python3",  # its stub links the system's libpython
    ),
    Server(
        "torchserve",
        "2 workers, batch 32, 5 ms",
        (payloads.json("/predictions/digits"), payloads.raw("/predictions/digits")),
        program="java",
    ),
)


@contextmanager
def serving(server: Server, graph: Path, environments: Path, sample: Sample) -> Iterator[int]:
    """Start a server and wait until it answers: its port. All its processes have ended afterwards.

    Raises:
        UnavailableError: it cannot be installed, or does not answer.
    """
    if server.program is not None and shutil.which(server.program) is None:
        raise UnavailableError(f"{server.program} is needed, and not there")
    port = ports.free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MOMENTUM_")}
    if server.ours:
        command = [sys.executable, "-m", "service", "--port", str(port), "--log-level", "warning"]
        command += ["--store", str(graph.parents[2])]
    else:
        program = python(server.name, environments, server.interpreter)
        command = [str(program), "-m", f"benchmarks.serving.peers.{server.name}"]
        environment |= {ports.PORT: str(port), digits.MODEL: str(graph)}
    environment["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        process = subprocess.Popen(  # noqa: S603
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            _wait(process, port, server.payloads, sample, log.fileno())
            yield port
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            end_descendants(os.getpid(), STOP_SECONDS)


def _wait(
    process: subprocess.Popen[bytes], port: int, ways: Sequence[Payload], sample: Sample, log: int
) -> None:
    deadline = time.monotonic() + START_SECONDS
    said = "nothing listens"
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with client.Connection(port) as connection:
                answers = [connection.ask(way.request(sample, port)) for way in ways]
        except OSError as error:
            said = str(error)
        else:
            if all(answer.status == 200 for answer in answers):
                return
            said = " and ".join(f"{answer.status} {answer.body[:200]!r}" for answer in answers)
        time.sleep(0.2)
    ended = "" if process.poll() is None else f" and ended with {process.returncode}"
    tail = os.pread(log, 2**24, 0).decode(errors="replace").strip().splitlines()[-3:]
    raise UnavailableError(f"it does not answer ({said}){ended}: {' / '.join(tail)}")
