"""Which processes a server consists of, and the processor time that they use."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

_SET_CHILD_SUBREAPER = 36  # prctl(2)


def adopt_orphans() -> None:
    """Make this process the parent of descendants that lose theirs, so that none gets out of sight.

    Raises:
        OSError: the system refuses.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def descendants(root: int) -> set[int]:
    """The children of a process that run, and theirs, and so on."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if state != "Z":
                children.setdefault(int(parent), []).append(int(entry.name))
    found: set[int] = set()
    new = [root]
    while new:
        new = [child for parent in new for child in children.get(parent, [])]
        found.update(new)
    return found


def cpu_seconds(process: int) -> float:
    """Processor time of a process, all threads, to the nanosecond; 0 if there is no such process any more.
    /proc/PID/stat would give hundredths of a second.
    """
    try:
        return time.clock_gettime((~process << 3) | 2)  # what clock_getcpuclockid(3) makes of a process
    except OSError:
        return 0.0


def tree_cpu_seconds(root: int) -> dict[int, float]:
    """Processor time of each descendant."""
    return {process: cpu_seconds(process) for process in descendants(root)}


def used(before: dict[int, float], after: dict[int, float]) -> float:
    """Processor seconds between two readings, of processes that were there at the second."""
    return sum(seconds - before.get(process, 0.0) for process, seconds in after.items())


def machine_cpu_seconds() -> float:
    """Processor time that the whole machine has used."""
    user, nice, system, _, _, irq, softirq = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def end_descendants(root: int, patience: float) -> None:
    """Ask all descendants to end, wait, and kill those that are still there."""
    _send(descendants(root), signal.SIGTERM)
    deadline = time.monotonic() + patience
    while (left := descendants(root)) and time.monotonic() < deadline:
        _reap()
        time.sleep(0.05)
    _send(left, signal.SIGKILL)
    while descendants(root):
        _reap()
        time.sleep(0.05)
    _reap()


def _send(processes: set[int], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def _reap() -> None:
    """Take leave of adopted children that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
