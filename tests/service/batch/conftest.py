"""The command as a process, and files for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet


@dataclass
class Ended:
    """How a run ended."""

    status: int
    told: str


Batch = Callable[..., Ended]
Start = Callable[..., subprocess.Popen[str]]


def rows(folder: Path) -> list[dict[str, Any]]:
    """All rows of results."""
    return list(parquet.read_table(folder).to_pylist())


@pytest.fixture
def start() -> Start:
    """Start `python -m service batch`."""

    def start(*arguments: object, given: int = subprocess.PIPE, **variables: str) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MOMENTUM_")}
        return subprocess.Popen(
            [sys.executable, "-m", "service", "batch", *map(str, arguments)],
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment | variables,
            start_new_session=True,  # as a shell starts it: Ctrl-C reaches all its processes
        )

    return start


@pytest.fixture
def batch(start: Start) -> Batch:
    """Run `python -m service batch` to its end."""

    def batch(*arguments: object, given: str = "", **variables: str) -> Ended:
        with start(*arguments, **variables) as process:
            out, told = process.communicate(given, timeout=120)
        assert out == ""
        return Ended(process.returncode, told)

    return batch


@pytest.fixture(scope="session")
def digits_folder(
    tmp_path_factory: pytest.TempPathFactory, mnist: tuple[NDArray[np.uint8], NDArray[np.uint8]]
) -> Path:
    """500 test images of MNIST as PNG files in ten folders, each with its label at the end of its name."""
    folder = tmp_path_factory.mktemp("digits")
    for index, (image, label) in enumerate(zip(*mnist, strict=True)):
        path = folder / f"{index % 10}" / f"{index:03d}-{label}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    return folder
