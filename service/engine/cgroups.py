"""The limits of the container or the service unit that this process runs in. Only Linux has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

MEMBERSHIP = Path("/proc/self/cgroup")  # this process's
ROOT = Path("/sys/fs/cgroup")


def cpu_quota(membership: Path = MEMBERSHIP, root: Path = ROOT) -> float | None:
    """The CPU time this process may use, in CPUs; None without a limit.

    Args:
        membership: the process's /proc/<pid>/cgroup.
        root: where cgroups are mounted. Version 2 keeps `cpu.max` there, version 1 `cpu/cpu.cfs_quota_us`.
    """
    quotas = []
    for folder, version in _groups("cpu", membership, root):
        if version == 1:
            limit = [_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")]
        else:
            limit = _read(folder / "cpu.max").split()
        if len(limit) == 2 and limit[0].isdigit():
            quotas.append(int(limit[0]) / int(limit[1]))
    return min(quotas, default=None)


def memory_limit(membership: Path = MEMBERSHIP, root: Path = ROOT) -> int | None:
    """The bytes of memory this process and its siblings may use; None without a limit.

    Args:
        membership, root: see `cpu_quota`. Version 2 keeps `memory.max`, version 1
            `memory/memory.limit_in_bytes`, where an enormous number says that there is none.
    """
    limits = []
    for folder, version in _groups("memory", membership, root):
        limit = _read(folder / ("memory.limit_in_bytes" if version == 1 else "memory.max"))
        if limit.isdigit() and int(limit) < 2**60:
            limits.append(int(limit))
    return min(limits, default=None)


def _groups(controller: str, membership: Path, root: Path) -> Iterator[tuple[Path, int]]:
    """The folders that may limit the process, and the cgroups' version."""
    for line in _read(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / controller if controllers else root
        group = mount / path.lstrip("/")
        # A container usually sees its own group as the root; elsewhere every ancestor's limit holds too.
        for folder in (group, *group.parents):
            if not folder.is_relative_to(mount):
                break
            yield folder, 1 if controllers else 2


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
