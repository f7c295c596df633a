"""How far the work is: a live line on a terminal, a line now and then elsewhere; on standard error."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

_EVERY = 10.0  # seconds from line to line


class Display:
    """Tells how many files are done, how fast, and when all will be.

    Attributes:
        total: how many there are, once that is known.
        skipped: how many earlier runs had done.
        done: how many this one has.
        bad: how many of all could not be classified.
    """

    def __init__(self) -> None:
        self.total: int | None = None
        self.skipped = self.done = self.bad = 0
        self._began = self._told = time.monotonic()
        self._exit = ExitStack()
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            console = Console(stderr=True)
            columns = (BarColumn(20), TextColumn("{task.description}"))
            self._bar = self._exit.enter_context(Progress(*columns, console=console, transient=True))
            self._bar.add_task("", total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()
        print(self.text, file=sys.stderr, flush=True)

    @property
    def text(self) -> str:
        """The line."""
        seconds = time.monotonic() - self._began
        rate = self.done / seconds if seconds else 0.0
        of = "" if self.total is None else f" of {self.total}"
        parts = [f"{self.skipped + self.done}{of} files", f"{self.bad} bad", f"{rate:.1f} files/s"]
        if self.skipped:
            parts.insert(1, f"{self.skipped} by earlier runs")
        left = 0 if self.total is None else self.total - self.skipped - self.done
        if left > 0 and rate:
            parts.append(f"{timedelta(seconds=round(left / rate))} left")
        return ", ".join(parts)

    def add(self, done: int, bad: int) -> None:
        """Count files."""
        self.done += done
        self.bad += bad
        if self._bar is not None:
            completed = self.skipped + self.done
            self._bar.update(
                self._bar.task_ids[0], description=self.text, total=self.total, completed=completed
            )
        elif time.monotonic() - self._told >= _EVERY:
            self._told = time.monotonic()
            print(self.text, file=sys.stderr, flush=True)
