"""How fast the service answers, beside other servers: `python -m benchmarks.serving`."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import onnxruntime

from benchmarks.machine import processor
from benchmarks.serving import client, processes, raw, wrk
from benchmarks.serving.digits import Digits
from benchmarks.serving.environments import DEFAULT_FOLDER, UnavailableError
from benchmarks.serving.outcome import Outcome
from benchmarks.serving.payloads import Payload, samples
from benchmarks.serving.report import write_report
from benchmarks.serving.results import BINARY, DEADLINE, Lone, Overload, Results, Row
from benchmarks.serving.servers import ROOT, SERVERS, Server, serving
from exports.card import MODEL_FILE
from exports.store import DEFAULT_STORE, read_card

CONNECTIONS = (1, 16, 64)
SECONDS, WARM_UP_SECONDS, OVERLOAD_SECONDS = 10.0, 2.0, 60.0
TIMES = 3.0  # the capacity
IDLE_SECONDS = 10.0
LONE_ROUNDS, LONE_COUNT = 10, 50
MOST_CONNECTIONS = 8000  # that the overload may open


class Benchmark:
    """One run.

    Args:
        options: of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        folder, _ = read_card(options.store, "digits")
        self._graph = (folder / MODEL_FILE).resolve()
        self._digits = [Digits(self._graph) for _ in range(max(raw.THREADS))]
        self._samples = samples()
        self._passes: list[raw.Pass] = []
        self.results = Results(_about(), raw.Raw(self._passes))

    def run(self) -> Results:
        """Measure everything; what cannot be measured is told in the results."""
        chosen = [server for server in SERVERS if server.name in self._options.only]
        self._raw()
        for number, server in enumerate(chosen):
            if number == len(chosen) // 2:
                self._raw()
            try:
                self._serve(server)
            except (UnavailableError, client.WrongAnswerError, wrk.WrkError, OSError) as error:
                print(f"{server.name}: {error}", flush=True)
                self.results.failures[server.name] = str(error)
        self._raw()
        return self.results

    def _raw(self) -> None:
        pixels = self._samples[0].pixels[None]
        self._passes.append(raw.measure(self._digits, pixels, self._options.seconds / 10))
        print(f"raw: {self.results.raw.best:.0f} sequences/s, alone {self.results.raw.alone:.0f}", flush=True)

    def _serve(self, server: Server) -> None:
        environments = self._options.environments
        with serving(server, self._graph, environments, self._samples[0]) as port:
            for payload in server.payloads:
                client.check(port, payload, self._samples, self._digits[0])
                for connections in self._options.connections:
                    row = self._row(server, port, payload, connections)
                    self.results.rows.append(row)
                    print(_line(row), flush=True)
            if server.ours:
                self.results.lone = self._lone(port, server.payloads)
                self.results.idle = _idle()
                if self._options.overload_seconds:
                    self.results.overload = self._overload(port, server.payloads)

    def _row(self, server: Server, port: int, payload: Payload, connections: int) -> Row:
        requests = [payload.request(sample, port) for sample in self._samples]
        wrk.load(port, requests, connections, WARM_UP_SECONDS)
        before, machine = processes.tree_cpu_seconds(os.getpid()), processes.machine_cpu_seconds()
        client_before = _children_cpu_seconds()
        load = wrk.load(port, requests, connections, self._options.seconds)
        cpu = processes.used(before, processes.tree_cpu_seconds(os.getpid()))
        machine = processes.machine_cpu_seconds() - machine
        others = machine - cpu - (_children_cpu_seconds() - client_before)
        return Row(server, payload.name, connections, load, cpu, max(0.0, others))

    def _lone(self, port: int, payloads: Sequence[Payload]) -> Lone:
        sample = self._samples[0]
        alone: list[float] = []
        times: dict[str, list[float]] = {payload.name: [] for payload in payloads}
        with client.Connection(port) as connection:
            for _ in range(LONE_ROUNDS):
                alone += raw.run_times(self._digits[0], sample.pixels[None], LONE_COUNT)
                for payload in payloads:
                    request = payload.request(sample, port)
                    times[payload.name] += client.round_trips(connection, request, LONE_COUNT)
        medians = {name: 1000.0 * statistics.median(took) for name, took in times.items()}
        return Lone(1000.0 * statistics.median(alone), medians)

    def _overload(self, port: int, payloads: Sequence[Payload]) -> Overload:
        payload = next(payload for payload in payloads if payload.name == BINARY)
        capacity = self.results.ours(BINARY, max(self._options.connections)) or 0.0
        headers = {"X-Request-Timeout": f"{DEADLINE:g}"}
        with tempfile.TemporaryDirectory() as folder:
            files = []
            for number, sample in enumerate(self._samples):
                files.append(Path(folder, str(number)))
                files[-1].write_bytes(payload.request(sample, port, headers))
            command = [sys.executable, "-m", "benchmarks.serving.openloop", "--port", str(port)]
            command += ["--rate", str(TIMES * capacity), "--seconds", str(self._options.overload_seconds)]
            command += ["--connections", str(MOST_CONNECTIONS), *map(str, files)]
            done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)  # noqa: S603
        if done.returncode:
            raise UnavailableError(f"the overload's generator failed: {done.stderr.strip()[-500:]}")
        return Overload(capacity, TIMES * capacity, Outcome.load(done.stdout))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the report; returns the exit status."""
    names = [server.name for server in SERVERS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names)
    )
    parser.add_argument(
        "--connections", nargs="+", type=int, default=CONNECTIONS, help="default: %(default)s"
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a row (default: %(default)s)")
    parser.add_argument(
        "--overload-seconds",
        type=float,
        default=OVERLOAD_SECONDS,
        help="0 leaves it out (default: %(default)s)",
    )
    parser.add_argument("--store", type=Path, default=DEFAULT_STORE, help="default: the shipped one")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder of the report")
    parser.add_argument(
        "--environments",
        type=Path,
        default=DEFAULT_FOLDER,
        help="folder of the peers' (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    try:
        wrk.find()
    except wrk.WrkError as error:
        print(error, file=sys.stderr)
        return 1
    processes.adopt_orphans()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # the server and the overload inherit it
    write_report(Benchmark(options).run(), options.out)
    return 0


def _about() -> list[str]:
    command = shlex.join(["python", "-m", "benchmarks.serving", *sys.argv[1:]])
    today = dt.datetime.now(dt.UTC).date()
    return [
        f"Made by `{command}` on {today}.",
        f"{processor()}, {os.cpu_count()} cores, clients and servers together.",
        f"onnxruntime {onnxruntime.__version__}, Python {platform.python_version()}.",
    ]


def _idle() -> float:
    """Cores that the server uses while nobody asks."""
    time.sleep(2.0)
    begin, before = time.perf_counter(), processes.tree_cpu_seconds(os.getpid())
    time.sleep(IDLE_SECONDS)
    used = processes.used(before, processes.tree_cpu_seconds(os.getpid()))
    return used / (time.perf_counter() - begin)


def _children_cpu_seconds() -> float:
    """Of children that have ended: of wrk, while a server runs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _line(row: Row) -> str:
    load = row.load
    return (
        f"{row.server.name} {row.payload} {row.connections}: {load.rate:.0f}/s, p50 {load.p50_ms:.1f} ms, "
        f"p99 {load.p99_ms:.1f} ms, {row.cpu_ms:.2f} CPU ms a request, {load.errors} errors"
    )


if __name__ == "__main__":
    sys.exit(main())
