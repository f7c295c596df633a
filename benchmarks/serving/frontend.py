"""What a request costs the service's event loop: `python -m benchmarks.serving.frontend`."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import processor
from benchmarks.serving import processes, wrk
from benchmarks.serving.environments import DEFAULT_FOLDER
from benchmarks.serving.payloads import samples
from benchmarks.serving.servers import OURS, SERVERS, serving
from exports.card import MODEL_FILE
from exports.store import DEFAULT_STORE, read_card

CONNECTIONS, SECONDS = 64, 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.frontend", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a row (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder of the table")
    options = parser.parse_args(arguments)
    server = next(server for server in SERVERS if server.name == OURS)
    graph = (read_card(DEFAULT_STORE, "digits")[0] / MODEL_FILE).resolve()
    asked = samples()
    lines = [
        "# What a request costs the event loop",
        "",
        f"Made by `python -m benchmarks.serving.frontend` on {dt.datetime.now(dt.UTC).date()}.",
        f"{processor()}, {os.cpu_count()} cores, client and server together. {CONNECTIONS} connections send",
        "images of 784 pixels. The event loop's thread does all that is not the model itself or the decoding",
        "of pictures; it has one core at most.",
        "",
        "| payload | requests/s | the thread's CPU ms a request | of a core |",
        "| --- | ---: | ---: | ---: |",
    ]
    try:
        with serving(server, graph, DEFAULT_FOLDER, asked[0]) as port:
            (process,) = processes.descendants(os.getpid())
            for payload in server.payloads:
                requests = [payload.request(sample, port) for sample in asked]
                wrk.load(port, requests, CONNECTIONS, options.seconds / 5)
                before = _main_thread_seconds(process)
                load = wrk.load(port, requests, CONNECTIONS, options.seconds)
                used = _main_thread_seconds(process) - before
                cost, share = 1000.0 * used / load.requests, used / load.seconds
                lines.append(f"| {payload.name} | {load.rate:.0f} | {cost:.3f} | {share:.2f} |")
                print(lines[-1], flush=True)
    except wrk.WrkError as error:
        print(error, file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "frontend.md").write_text("\n".join([*lines, ""]))
    return 0


def _main_thread_seconds(process: int) -> float:
    """Processor time of a process' first thread, which has the event loop."""
    stat = Path(f"/proc/{process}/task/{process}/stat").read_text()
    user, system = map(int, stat.rpartition(")")[2].split()[11:13])
    return (user + system) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
