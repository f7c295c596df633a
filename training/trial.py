"""The end of a sweep that lives in a trial's process: `python -m training fit` with one more callback."""

from __future__ import annotations

import json
import os
import socket
from queue import SimpleQueue
from threading import Thread
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from training.task import Task

GO_ON, STOP = "go on", "stop"


class Reports(Callback):
    """Tells the sweep what each validation found, and stops when the sweep says so. Without the sweep the
    training ends: nobody waits for it.

    Args:
        channel: file descriptor of a socket. There go lines of JSON, `{"epoch": number, "value": number}`,
            and to each comes a line: "go on" or "stop".
    """

    def __init__(self, channel: int) -> None:
        self.channel = channel
        self.answers: SimpleQueue[str] = SimpleQueue()
        self.connection: socket.socket | None = None

    def setup(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        """Listen, in one of the training's processes."""
        if trainer.is_global_zero and self.connection is None:
            self.connection = socket.socket(fileno=self.channel)
            Thread(target=self._listen, args=(self.connection,), daemon=True).start()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report, and do as the answer says."""
        if trainer.sanity_checking or not isinstance(pl_module, Task):
            return
        stop = False
        if self.connection is not None:
            value = float(trainer.callback_metrics[pl_module.monitor[0]])
            report = json.dumps({"epoch": trainer.current_epoch, "value": value})
            self.connection.sendall(f"{report}\n".encode())
            stop = self.answers.get() == STOP
        if trainer.strategy.broadcast(stop):
            trainer.should_stop = True

    def _listen(self, connection: socket.socket) -> None:
        with connection.makefile() as lines:
            for line in lines:
                self.answers.put(line.strip())
        os._exit(1)
