"""What the machine is, and what it can do."""

from __future__ import annotations

import platform
import time
from pathlib import Path

import torch

SIZE = 2048  # rows and columns of the large matrix product


def describe(device: torch.device) -> str:
    """One line: processor or GPU, threads, library versions."""
    if device.type == "cuda":
        hardware = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    else:
        hardware = f"{processor()}, {torch.get_num_threads()} threads"
    return f"{hardware}, PyTorch {torch.__version__}, Python {platform.python_version()}"


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_product_rate(device: torch.device, repeats: int = 5) -> float:
    """Floating-point operations a second of a large float32 matrix product, the best of some."""
    a, b = torch.rand(SIZE, SIZE, device=device), torch.rand(SIZE, SIZE, device=device)
    best = float("inf")
    for _ in range(repeats + 1):
        synchronize(device)
        begin = time.perf_counter()
        a @ b
        synchronize(device)
        best = min(best, time.perf_counter() - begin)
    return 2.0 * SIZE**3 / best
