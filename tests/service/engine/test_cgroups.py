"""Limits are read as cgroups of both versions keep them."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.engine import cgroups


def write(folder: Path, membership: str, files: dict[str, str]) -> tuple[Path, Path]:
    """What a process sees of its cgroup."""
    (folder / "membership").write_text(membership)
    for name, content in files.items():
        (folder / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "root" / name).write_text(content + "\n")
    return folder / "membership", folder / "root"


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "max 100000"}, None),
        ("0::/\n", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000"}, 0.5),
        ("0::/a/b\n", {"a/b/cpu.max": "200000 100000", "a/cpu.max": "300000 100000"}, 2),
        (
            "4:cpu,cpuacct:/a\n",
            {"cpu/a/cpu.cfs_quota_us": "25000", "cpu/a/cpu.cfs_period_us": "100000"},
            0.25,
        ),
        ("4:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("3:memory:/\n", {}, None),
        ("", {}, None),
    ],
)
def test_cpu_quotas(tmp_path: Path, membership: str, files: dict[str, str], quota: float | None) -> None:
    assert cgroups.cpu_quota(*write(tmp_path, membership, files)) == quota


@pytest.mark.parametrize(
    ("membership", "files", "limit"),
    [
        ("0::/a\n", {"a/memory.max": "max"}, None),
        ("0::/a\n", {"a/memory.max": "max", "memory.max": "1000"}, 1000),
        ("0::/a\n", {"a/memory.max": "500", "memory.max": "1000"}, 500),
        ("5:memory:/a\n", {"memory/a/memory.limit_in_bytes": "2000"}, 2000),
        ("5:memory:/a\n", {"memory/a/memory.limit_in_bytes": "9223372036854771712"}, None),
        ("4:cpu:/a\n", {"memory/a/memory.limit_in_bytes": "2000"}, None),
    ],
)
def test_memory_limits(tmp_path: Path, membership: str, files: dict[str, str], limit: int | None) -> None:
    assert cgroups.memory_limit(*write(tmp_path, membership, files)) == limit
