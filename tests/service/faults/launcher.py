"""`python -m tests.service.faults.launcher FLAGS`: the server, with faults that signals cause. The product
has no switches for these.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from enum import IntEnum

from service.__main__ import main
from service.engine.scheduler import Batch
from service.engine.store import Tensor

HOURS = 10 * 3600.0


class Fault(IntEnum):
    """What a signal does."""

    HOLD = signal.SIGUSR1  # batches do not end, whoever runs them
    RELEASE = signal.SIGUSR2
    KILL_LANE = signal.SIGRTMIN + 1  # the next batch ends its thread; later threads are held
    CLOCK_AHEAD = signal.SIGRTMIN + 2
    CLOCK_BACK = signal.SIGRTMIN + 3
    LOG_FULL = signal.SIGRTMIN + 4  # the disk that the log is on
    LOG_FREE = signal.SIGRTMIN + 5


class Faults:
    """They happen in the process that this is made in."""

    def __init__(self) -> None:
        self._released = threading.Event()
        self._released.set()
        self._doomed = threading.Semaphore(0)
        self._free: set[threading.Thread] | None = None  # those that are not held; None: all are
        self._run = Batch.run
        self._time = time.time
        self._shift = 0.0
        self._log, self._full = os.dup(2), os.open("/dev/full", os.O_WRONLY)
        Batch.run = lambda batch: self.run(batch)  # type: ignore[method-assign]
        time.time = lambda: self._time() + self._shift
        for fault in Fault:
            signal.signal(fault, self.cause)

    def cause(self, number: int, _: object) -> None:
        """Called in the main thread."""
        match Fault(number):
            case Fault.HOLD:
                self._free = None
                self._released.clear()
            case Fault.RELEASE:
                self._released.set()
            case Fault.KILL_LANE:
                self._free = set(threading.enumerate())
                self._released.clear()
                self._doomed.release()
            case Fault.CLOCK_AHEAD:
                self._shift += HOURS
            case Fault.CLOCK_BACK:
                self._shift -= HOURS
            case Fault.LOG_FULL:
                os.dup2(self._full, 2)
            case Fault.LOG_FREE:
                os.dup2(self._log, 2)

    def run(self, batch: Batch) -> dict[str, Tensor]:
        """In a lane's thread, instead of `Batch.run`."""
        if self._doomed.acquire(blocking=False):
            raise SystemExit
        if self._free is None or threading.current_thread() not in self._free:
            self._released.wait()
        return self._run(batch)


if __name__ == "__main__":
    Faults()
    main()
