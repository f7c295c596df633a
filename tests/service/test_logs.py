"""One line an event, whoever logs it and whatever is in it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

PROGRAM = """
import logging, sys, warnings
import structlog
from service import logs
logs.configure(sys.argv[1], "info")
structlog.contextvars.bind_contextvars(request_id="r1")
log = structlog.get_logger("ours")
log.debug("not wanted")
log.info("ours", path="a\\nb", odd="\\ud800", huge=2**70, thing=object)
try:
    raise ValueError("of no use")
except ValueError:
    log.exception("failed")
logging.getLogger("library").info("theirs %d", 7)
logging.getLogger("library").debug("not wanted")
warnings.warn("beware")
"""


def run(log_format: str) -> list[str]:
    """What the program logs, line by line."""
    command = [sys.executable, "-c", PROGRAM, log_format]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == ""
    return ended.stderr.splitlines()


def test_json() -> None:
    lines: list[dict[str, Any]] = [json.loads(line) for line in run("json")]
    assert [(line["event"].split("\n")[0], line["level"], line["logger"]) for line in lines[:3]] == [
        ("ours", "info", "ours"),
        ("failed", "error", "ours"),
        ("theirs 7", "info", "library"),
    ]
    assert "UserWarning: beware" in lines[3]["event"]
    assert len(lines) == 4
    assert all(line["request_id"] == "r1" and line["timestamp"].endswith("Z") for line in lines)
    assert (lines[0]["path"], lines[0]["odd"], lines[0]["huge"]) == ("a\nb", "\ud800", 2**70)
    assert lines[1]["exception"].endswith("ValueError: of no use")


def test_console() -> None:
    lines = run("console")
    for words in (("ours", "request_id"), ("failed",), ("ValueError: of no use",), ("theirs 7",)):
        assert any(all(word in line for word in words) for line in lines)
    assert not any("not wanted" in line for line in lines)
