"""Training by several processes, on one machine or on several."""

from __future__ import annotations

import os
import signal
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher


def torchrun_options() -> dict[str, int]:
    """The trainer's options that torchrun has decided, where it started this process; else none.

    Lightning would have them given a second time, and refuse others.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()):
        return {}
    devices = int(os.environ["LOCAL_WORLD_SIZE"])
    return {"devices": devices, "num_nodes": int(os.environ["WORLD_SIZE"]) // devices}


class EndOnSigterm(Callback):
    """One of several processes that is told to end does so at once.

    Lightning's own handler, which suits a single process, tells the others by a collective operation. They
    may be in the middle of another, such as the sum of the gradients: then all wait for each other. Nothing
    is lost, for checkpoints are whole at any moment; and those who talk to a process that has ended get an
    error.
    """

    def _install(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        if trainer.world_size == 1:
            return
        launcher = trainer.strategy.launcher
        started = launcher.procs if isinstance(launcher, _SubprocessScriptLauncher) else []

        def end(number: int, _frame: Any) -> None:
            for process in started:
                process.send_signal(number)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

        # Python runs no handler while it waits for the other processes: without duties the kernel's is better
        signal.signal(signal.SIGTERM, end if started else signal.SIG_DFL)

    # the first hooks after Lightning's handler is installed
    on_train_start = on_validation_start = on_test_start = _install
