"""Logs: structlog for everything, the libraries' own records included; one line an event, on standard
error.

Our own lines are made the fast way that structlog's documentation gives: levels that are not wanted are
methods that do nothing, and orjson's bytes go to the file as they are.
"""

from __future__ import annotations

import io
import json
import logging
import sys
from contextlib import suppress
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger


def configure(log_format: str, level: str) -> None:
    """Set up logging for the process.

    Args:
        log_format: json (one object a line), console (for people), or auto: console on a terminal, else json.
        level: debug, info, warning or error.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()), _encode]
        if console
        else [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_json),
        ]
    )
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(_StandardError()),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering, _decode],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    # Uvicorn tells each step of starting and stopping; the lines that matter are ours.
    logging.getLogger("uvicorn.error").setLevel(max(root.level, logging.WARNING))
    logging.getLogger("watchfiles").setLevel(max(root.level, logging.WARNING))


class _StandardError(io.FileIO):
    """Takes a line by a call of the system. What that does not take, because the disk is full or nobody is at
    the other end, is lost: it must not fail the request that it tells of.
    """

    def __init__(self) -> None:
        super().__init__(sys.stderr.fileno(), "w", closefd=False)

    def write(self, line: Any, /) -> int:
        with suppress(OSError):
            super().write(line)
        return len(line)


def _json(line: EventDict, **options: Any) -> bytes:
    try:
        return orjson.dumps(line, **options)
    except orjson.JSONEncodeError:  # of half a surrogate pair, or an integer beyond 64 bits
        return json.dumps(line, **options).encode()


def _encode(_: WrappedLogger, __: str, line: Any) -> bytes:
    return str(line).encode(errors="backslashreplace")


def _decode(_: WrappedLogger, __: str, line: Any) -> str:
    return bytes(line).decode()
