"""Logs: structlog for everything, the libraries' own records included; one line an event, on standard
error.
"""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import Processor


def configure(log_format: str, level: str) -> None:
    """Set up logging for the process.

    Args:
        log_format: json (one object a line), console (for people), or auto: console on a terminal, else json.
        level: debug, info, warning or error.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    # Uvicorn tells each step of starting and stopping; the lines that matter are ours.
    logging.getLogger("uvicorn.error").setLevel(max(root.level, logging.WARNING))
