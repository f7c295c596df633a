"""Environment variables that look like settings and are none."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

import structlog

log = structlog.get_logger("service")

PREFIX = "MOMENTUM_"
_OTHERS = {"DATA"}  # which training reads
# What Kubernetes sets in every container for a Service whose name begins with "momentum".
_KUBERNETES = re.compile(r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT|PORT_[0-9]+_(TCP|UDP|SCTP)(_\w+)?)")


def warn(environment: Mapping[str, str], settings: Iterable[str]) -> None:
    """Log the variables that nothing reads, with the setting that may be meant.

    Args:
        environment: of the process.
        settings: names of those that there are.
    """
    known = {name.upper() for name in settings} | _OTHERS
    for variable in sorted(environment):
        prefix, name = variable[: len(PREFIX)].upper(), variable[len(PREFIX) :].upper()
        if prefix != PREFIX or name in known or _KUBERNETES.fullmatch(name):
            continue
        near = difflib.get_close_matches(name, known, 1)
        log.warning("unknown variable", name=variable, **{"nearest": PREFIX + near[0]} if near else {})
