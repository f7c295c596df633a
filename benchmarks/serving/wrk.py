"""The load: wrk, which costs the machine next to nothing. It sends different samples in turn."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.ports import HOST

_SCRIPT = """\
local requests, turn = {{}}, 0
for number = 0, {count} - 1 do
  local file = assert(io.open("{folder}/" .. number, "rb"))
  table.insert(requests, file:read("*a"))
  file:close()
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format("measured requests=%d microseconds=%d p50=%d p99=%d errors=%d\\n", summary.requests,
    summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""
_MEASURED = re.compile(
    r"^measured requests=(\d+) microseconds=(\d+) p50=(\d+) p99=(\d+) errors=(\d+)$", re.MULTILINE
)


class WrkError(Exception):
    """wrk is not there, or did not do what it should; the message says what to do."""


@dataclass(frozen=True)
class Load:
    """What wrk saw.

    Attributes:
        requests: that were answered, in whatever way.
        seconds: it took.
        p50_ms: half of the requests took no longer.
        p99_ms: 99 of 100 requests took no longer.
        errors: connections that broke or were refused, answers that did not come or had another status than
            2xx or 3xx.
    """

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def find() -> str:
    """Where wrk is.

    Raises:
        WrkError
    """
    program = shutil.which("wrk")
    if program is None:
        raise WrkError("wrk is not installed: `apt-get install wrk`, or https://github.com/wg/wrk")
    return program


def load(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Load:
    """Send requests on so many connections, on each the next as soon as the last is answered.

    Raises:
        WrkError
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, request in enumerate(requests):
            (folder / str(number)).write_bytes(request)
        script = folder / "script.lua"
        script.write_text(_SCRIPT.format(count=len(requests), folder=folder))
        command = [find(), "--threads", "1", "--connections", str(connections), "--timeout", "30s"]
        command += [
            "--duration",
            f"{max(1, round(seconds))}s",
            "--script",
            str(script),
            f"http://{HOST}:{port}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120)  # noqa: S603
    if done.returncode:
        raise WrkError(f"wrk ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return parse(done.stdout)


def parse(output: str) -> Load:
    """Read what the script wrote.

    Raises:
        WrkError: it did not.
    """
    found = _MEASURED.search(output)
    if found is None:
        raise WrkError(f"wrk did not say what it measured: {output[-500:]!r}")
    requests, microseconds, p50, p99, errors = map(int, found.groups())
    return Load(requests, microseconds / 1e6, p50 / 1e3, p99 / 1e3, errors)
