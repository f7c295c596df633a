"""How many files the process may have open: connections are files, too."""

from __future__ import annotations

import resource

import structlog

log = structlog.get_logger("service")

BESIDES = 100  # that a server has open besides its connections


def most() -> int:
    """What the limit can be raised to without privileges."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 2**63 if hard == resource.RLIM_INFINITY else hard


def allow(connections: int) -> None:
    """Raise the limit so that there may be as many connections, or as far as it can be raised. Beyond it the
    system closes connections before anybody could answer or count them.
    """
    needed, possible = connections + BESIDES, most()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < min(needed, possible):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, possible), hard))
    if possible < needed:
        log.warning("too few open files", allowed=possible, needed=needed)
