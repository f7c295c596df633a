"""Checkpoints that are whole or absent: written beside their place, then renamed into it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's own goes through the system's temporary folder, and a move from another file system is a
    copy.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write `checkpoint` to `path`; a process killed at any moment leaves the old file or the new one.

        Raises:
            OSError: the file cannot be written.
            TypeError: storage_options are given, which are for remote file systems.
        """
        if storage_options is not None:
            raise TypeError(
                "storage options are for remote file systems; checkpoints are written to local ones"
            )
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
