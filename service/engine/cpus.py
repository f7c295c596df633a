"""How many CPUs this process may use. onnxruntime and os.cpu_count() see the host's, not a container's
share.
"""

from __future__ import annotations

import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def available() -> int:
    """The CPUs this process may use, 1 or more: the affinity mask, capped by the cgroup's quota rounded
    up.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota(Path("/proc/self/cgroup"), _CGROUPS)
    return affinity if quota is None else max(1, min(affinity, -int(-quota // 1)))


def cgroup_quota(membership: Path, root: Path) -> float | None:
    """The CPU quota in CPUs, None without one.

    Args:
        membership: this process's /proc/<pid>/cgroup.
        root: where cgroups are mounted. Version 2 keeps `cpu.max` there, version 1 `cpu/cpu.cfs_quota_us`.
    """
    quotas = []
    for line in _read(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "cpu" if controllers else root
        group = mount / path.lstrip("/")
        # A container usually sees its own group as the root; elsewhere every ancestor's limit holds too.
        for folder in (group, *group.parents):
            if not folder.is_relative_to(mount):
                break
            if controllers:
                limit = [_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")]
            else:
                limit = _read(folder / "cpu.max").split()
            if len(limit) == 2 and limit[0].strip().isdigit():
                quotas.append(int(limit[0]) / int(limit[1]))
    return min(quotas, default=None)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
