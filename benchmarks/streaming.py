"""How many live streams the service carries: `python -m benchmarks.streaming`.

Plays real-time audio, 100 ms a message, into a real server's WebSocket from one other process on the same
machine, and asks when the answer to each message came back. Then runs the same model in onnxruntime alone.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.load import CHUNK_MS, FRAMES_A_CHUNK, Load, play
from exports.card import MODEL_FILE, Card
from exports.session import FramesRunner, States
from exports.store import DEFAULT_STORE, read_card

STREAMS = (50, 250, 400, 500, 750, 1000)
LIMIT_MS = 100.0
TARGET = 500
WARM_UP, SECONDS = 4.0, 15.0
BATCHES = (1, 4, 8, 16, 32)


@dataclass(frozen=True)
class Row:
    """What came of so many streams.

    Attributes:
        load: what the client saw.
        server: processor seconds a second that the server used.
        client: the same of the client.
    """

    load: Load
    server: float
    client: float

    @property
    def carried(self) -> bool:
        """Whether every message was sent and answered in time."""
        return self.load.answered == self.load.sent and self.load.milliseconds(99) < LIMIT_MS


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the report; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streaming", description=__doc__)
    parser.add_argument("--streams", nargs="+", type=int, default=STREAMS, help="default: %(default)s")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="measured of each (default: %(default)s)"
    )
    parser.add_argument("--store", type=Path, default=DEFAULT_STORE, help="default: the shipped one")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder of the report")
    options = parser.parse_args(arguments)
    folder, card = read_card(options.store, "frames")
    rows = []
    for count in options.streams:
        with serve(options.store, count) as (address, process):
            usage = partial(cpu_seconds, (process.pid, os.getpid()))
            load = play(address, count, card.sample_rate or 8000, WARM_UP, options.seconds, usage)
        rows.append(Row(load, *load.used))
        print(text(rows[-1]), flush=True)
    write(rows, raw(folder, card), options.out)
    return 0


@contextmanager
def serve(store: Path, streams: int) -> Iterator[tuple[tuple[str, int], subprocess.Popen[bytes]]]:
    """A server on a free port: its address and process."""
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-m", "service", "--port", "0", "--store", str(store)]
        command += ["--log-format", "json", "--max-streams", str(streams + 8)]
        process = subprocess.Popen(command, stderr=log)  # noqa: S603
        try:
            yield _address(process, log.fileno()), process
        finally:
            process.terminate()
            process.wait(timeout=60)


def _address(process: subprocess.Popen[bytes], log: int) -> tuple[str, int]:
    while process.poll() is None:
        for line in os.pread(log, 2**20, 0).splitlines(keepends=True):
            event = json.loads(line) if line.endswith(b"}\n") else {}
            if event.get("event") == "serving":
                host, _, port = event["url"].removeprefix("http://").rpartition(":")
                return host, int(port)
        time.sleep(0.05)
    raise RuntimeError(f"the server ended with {process.returncode}: {os.pread(log, 2**16, 0).decode()}")


def cpu_seconds(processes: Sequence[int]) -> list[float]:
    """Processor time that each process has used."""
    used = []
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        used.append((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))
    return used


def raw(folder: Path, card: Card) -> dict[int, float]:
    """Microseconds a frame of a stream that onnxruntime alone takes, one thread, chunk by chunk, by batch."""
    runner = FramesRunner(folder / MODEL_FILE, card)
    samples = (card.sample_rate or 8000) * CHUNK_MS // 1000
    generator = np.random.default_rng(0)
    result = {}
    for batch in BATCHES:
        waveform = generator.normal(0.0, 0.1, (batch, samples)).astype(np.float32)
        states: States = runner.start(batch)
        best = float("inf")
        for _ in range(7):
            begin = time.perf_counter()
            for _ in range(20):
                _, _, states = runner.run(waveform, states=states)
            best = min(best, time.perf_counter() - begin)
        result[batch] = 1e6 * best / (20 * batch * FRAMES_A_CHUNK)
    return result


def text(row: Row) -> str:
    """One line."""
    load = row.load
    return (
        f"{load.streams} streams: p50 {load.milliseconds(50):.1f} ms, p99 {load.milliseconds(99):.1f} ms, "
        f"worst {load.milliseconds(100):.1f} ms, {load.answered} of {load.sent} answered, "
        f"server {row.server:.2f} cores, client {row.client:.2f}"
    )


def write(rows: Sequence[Row], alone: dict[int, float], folder: Path) -> None:
    """Write streaming.md and streaming.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "streaming.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        names = ["streams", "sent", "answered", "p50_ms", "p99_ms", "worst_ms", "late_ms"]
        table.writerow([*names, "server_cores", "client_cores"])
        for row in rows:
            load = row.load
            numbers = [*(load.milliseconds(share) for share in (50, 99, 100)), load.late_ms]
            numbers += [row.server, row.client]
            table.writerow([load.streams, load.sent, load.answered, *(f"{x:.3f}" for x in numbers)])
    carried = max((row.load.streams for row in rows if row.carried), default=0)
    lines = [
        "# How many live streams the service carries",
        "",
        f"Made by `python -m benchmarks.streaming`. {os.cpu_count()} cores, server and client together.",
        "",
        f"Every stream sends {CHUNK_MS} ms of audio every {CHUNK_MS} ms, streams evenly apart. The time is",
        "from when a message was due to be sent until the frames in it were received. *Late*: p99 of how",
        "much later than due the client sent, which is in the times too.",
        "",
        f"**{carried} streams** were carried with every message answered and a p99 under {LIMIT_MS:.0f} ms;",
        f"the target is {TARGET}. Times are those of the messages that were answered.",
        "",
        "| streams | p50 ms | p99 ms | worst ms | late ms | answered | server cores | client cores |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        load = row.load
        times = " | ".join(f"{load.milliseconds(share):.1f}" for share in (50, 99, 100))
        lines.append(
            f"| {load.streams} | {times} | {load.late_ms:.1f} | {load.answered} of {load.sent} | "
            f"{row.server:.2f} | {row.client:.2f} |"
        )
    busiest = max((row for row in rows if row.carried), key=lambda row: row.load.streams, default=rows[0])
    cost = 1e6 * busiest.server / (busiest.load.streams * 1000 / CHUNK_MS * FRAMES_A_CHUNK)
    lines += [
        "",
        f"A frame of a stream costs the server {cost:.1f} µs of a core with {busiest.load.streams} streams. "
        "onnxruntime alone, one thread,",
        f"{CHUNK_MS} ms a run, takes:",
        "",
        "| streams in a batch | µs a frame |",
        "| ---: | ---: |",
        *(f"| {batch} | {microseconds:.1f} |" for batch, microseconds in alone.items()),
        "",
    ]
    (folder / "streaming.md").write_text("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
