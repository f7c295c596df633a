"""How many CPUs this process may use. onnxruntime and os.cpu_count() see the host's, not a container's
share.
"""

from __future__ import annotations

import os

from service.engine import cgroups


def available() -> int:
    """The CPUs this process may use, 1 or more: the affinity mask, capped by the cgroup's quota rounded
    up.
    """
    quota = cgroups.cpu_quota()
    return affinity() if quota is None else max(1, min(affinity(), -int(-quota // 1)))


def affinity() -> int:
    """The CPUs that this process's threads may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
