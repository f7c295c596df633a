"""The server under load: its process, what it holds, and what it logged."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.processes import cpu_seconds
from benchmarks.soak.rude import MAX_BODY_BYTES

_FLAGS = {
    "--port": 0,
    "--log-format": "json",
    "--max-body-bytes": MAX_BODY_BYTES,
    "--stream-resume-seconds": 10,  # those who don't come back are to be gone before it is measured
    "--drain-seconds": 0,
}
_PATIENCE_SECONDS = 60
# Of what is worse than information: what is said of broken artifacts, and of what is not HTTP.
_EXPECTED = {"not served", "Invalid HTTP request received."}


@dataclass(frozen=True)
class Holding:
    """What the process holds.

    Attributes:
        rss: bytes of memory.
        threads, files: how many, open.
        cpu: seconds used so far.
    """

    rss: int
    threads: int
    files: int
    cpu: float


class ServerProcess:
    """
    Args:
        process: `python -m service`.
        log: its standard error.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    def hold(self) -> Holding:
        """What it holds now.

        Raises:
            OSError: it has ended.
        """
        number = self._process.pid
        status = dict(
            line.split(":", 1)
            for line in Path(f"/proc/{number}/status").read_text().splitlines()
            if ":" in line
        )
        rss = int(status["VmRSS"].split()[0]) * 1024
        files = sum(1 for _ in Path(f"/proc/{number}/fd").iterdir())
        return Holding(rss, int(status["Threads"]), files, cpu_seconds(number))

    async def address(self) -> tuple[str, int]:
        """Where it listens, once it does.

        Raises:
            RuntimeError: it ended.
        """
        while self._process.poll() is None:
            for line in self._log.read_text().splitlines(keepends=True):
                event = json.loads(line) if line.endswith("}\n") else {}
                if event.get("event") == "serving":
                    host, _, port = event["url"].removeprefix("http://").rpartition(":")
                    return host, int(port)
            await asyncio.sleep(0.05)
        raise RuntimeError(f"the server ended with {self._process.returncode}: {self._log.read_text()}")

    async def stop(self) -> int | None:
        """Send SIGTERM; the exit status, or None if it did not end."""
        self._process.terminate()
        try:
            return await asyncio.to_thread(self._process.wait, _PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            return None

    def complaints(self) -> Counter[str]:
        """What it logged that it should not have: tracebacks, and what is worse than information."""
        found: Counter[str] = Counter()
        with self._log.open() as log:
            for line in log:
                try:
                    event = json.loads(line)
                except json.JSONDecodeError:
                    found[f"not JSON: {line.strip()[:100]}"] += 1
                    continue
                bad = event.get("level") in ("warning", "error", "critical")
                if "exception" in event or (bad and event.get("event") not in _EXPECTED):
                    found[str(event.get("event"))[:200]] += 1
        return found


@asynccontextmanager
async def serving(store: Path, log: Path) -> AsyncIterator[ServerProcess]:
    """Run `python -m service` on a store and a free port."""
    flags = [str(part) for flag in _FLAGS.items() for part in flag]
    command = [sys.executable, "-m", "service", *flags, "--local-admin", "--store", str(store)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MOMENTUM_")}
    with log.open("wb") as file:
        process = subprocess.Popen(command, stderr=file, env=environment)  # noqa: S603
    try:
        yield ServerProcess(process, log)
    finally:
        if process.poll() is None:
            process.kill()
        await asyncio.to_thread(process.wait)
