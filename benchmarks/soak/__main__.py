"""The command line."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import processor
from benchmarks.soak.report import verdicts, write_report
from benchmarks.soak.run import Plan, soak
from exports.store import DEFAULT_STORE


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak a server and write the report; returns 0 if all that is asked was met, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak", description="Load a server with everything at once for a long time."
    )
    parser.add_argument("--minutes", type=float, default=15.0, help="default: %(default)g")
    parser.add_argument("--reloads", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--store", type=Path, default=DEFAULT_STORE, help="default: the shipped one")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder of the report")
    options = parser.parse_args(arguments)
    result = asyncio.run(soak(options.store, Plan(60.0 * options.minutes, options.reloads)))
    command = f"python -m benchmarks.soak --minutes {options.minutes:g} --reloads {options.reloads}"
    machine = f"{processor()}, {os.cpu_count()} cores"
    write_report(result, options.out, machine, command)
    judged = verdicts(result)
    for verdict in judged:
        print(f"{'met   ' if verdict.met else 'MISSED'} {verdict.asked}: {verdict.found}")
    for text in [*result.tally.told, *result.reloads.told]:
        print(text)
    return 0 if all(verdict.met for verdict in judged) else 1


if __name__ == "__main__":
    sys.exit(main())
