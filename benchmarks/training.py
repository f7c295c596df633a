"""`python -m benchmarks.training`: how fast the cells train, beside torch's and the authors' step-by-step
way.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

# as python -m training does, before torch is loaded
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

import torch

from benchmarks.cells import BASELINE, OURS, STEPWISE, TORCHS, Contestant, Size
from benchmarks.machine import describe, matrix_product_rate, synchronize
from benchmarks.report import Measurements, write_report
from training.allocator import keep_freed_memory

# the paper's: (P)MNIST pixel by pixel with both hidden sizes, TIMIT's frames
SIZES = (Size(784, 128, 1, 128), Size(784, 128, 1, 256), Size(150, 32, 129, 158))
GROWING = (BASELINE, "MomentumLSTM", "AdamLSTM", "MomentumDTRIV", "MomentumLSTM" + STEPWISE)
TIMES = (100, 200, 400, 800, 1600, 3200, 6400)
BATCHES = (1, 4, 16, 64, 256)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the report; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--device", default="cpu", type=torch.device, help="cpu or cuda (default cpu)")
    parser.add_argument("--rounds", default=5, type=int, help="how often each is measured (default 5)")
    parser.add_argument("--out", default=Path("docs/results"), type=Path, help="folder of the report")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    keep_freed_memory()
    result = Measurements(describe(options.device), options.rounds)
    for size in SIZES:
        names = [*TORCHS, *OURS, *(name + STEPWISE for name in OURS)]
        result.seconds[size] = measure(names, size, options.device, options.rounds)
        result.memory[size] = peak_memory(names, size, options.device)
        result.product_rate[size] = matrix_product_rate(options.device)
    for size in (*(Size(t, 32, 1, 128) for t in TIMES), *(Size(784, b, 1, 128) for b in BATCHES)):
        result.growth[size] = measure(GROWING, size, options.device, min(options.rounds, 3))
    write_report(result, options.out, options.device)
    return 0


def measure(names: Sequence[str], size: Size, device: torch.device, rounds: int) -> dict[str, list[float]]:
    """Seconds of a training step of each contestant, one a round, in random order within a round."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    contestants = {name: Contestant(name, size, device) for name in names}
    order = random.Random(0)  # noqa: S311
    for number in range(rounds + 1):
        for name in order.sample(list(names), len(names)):
            synchronize(device)
            begin = time.perf_counter()
            contestants[name].step()
            synchronize(device)
            if number > 0:  # the first warms up
                seconds[name].append(time.perf_counter() - begin)
        print(f"{size}: round {number} of {rounds}", file=sys.stderr)
    return seconds


def peak_memory(names: Sequence[str], size: Size, device: torch.device) -> dict[str, float]:
    """Bytes that a training step of each contestant needs at its peak, besides what was there before it."""
    if device.type == "cuda":
        return {name: _peak_on_gpu(name, size, device) for name in names}
    # each in a process of its own: memory that another has freed would not count again
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return {name: pool.apply(_peak_of_process, (name, size)) for name in names}


def _peak_on_gpu(name: str, size: Size, device: torch.device) -> float:
    contestant = Contestant(name, size, device)
    contestant.step()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    contestant.step()
    return float(torch.cuda.max_memory_allocated(device) - before)


def _peak_of_process(name: str, size: Size) -> float:
    Contestant(name, Size(2, 2, size.inputs, 8), torch.device("cpu")).step()  # loads what it loads
    contestant = Contestant(name, size, torch.device("cpu"))
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts anew
    before = _status("VmRSS")
    contestant.step()
    return _status("VmHWM") - before


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith(key))


if __name__ == "__main__":
    sys.exit(main())
