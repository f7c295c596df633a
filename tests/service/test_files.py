"""There may be as many open files as connections need, where the system allows it."""

from __future__ import annotations

import resource

import pytest
from structlog.testing import capture_logs

from service import files


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The process's, the last of these."""
    has: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: has[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: has.append(limit))
    return has


@pytest.mark.parametrize(
    ("before", "after", "enough"),
    [
        ((1024, 10_000), (4196, 10_000), True),
        ((1024, 2000), (2000, 2000), False),
        ((2000, 2000), (2000, 2000), False),
        ((5000, 10_000), (5000, 10_000), True),
        ((1024, resource.RLIM_INFINITY), (4196, resource.RLIM_INFINITY), True),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), (resource.RLIM_INFINITY,) * 2, True),
    ],
)
def test_the_limit_is_raised_as_far_as_it_can_be(
    limits: list[tuple[int, int]], before: tuple[int, int], after: tuple[int, int], enough: bool
) -> None:
    limits.append(before)
    with capture_logs() as logged:
        files.allow(4096)
    assert limits[-1] == after
    warning = {"event": "too few open files", "allowed": before[1], "needed": 4196, "log_level": "warning"}
    assert logged == ([] if enough else [warning])
