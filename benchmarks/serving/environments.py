"""The peers' environments: one each, made when it is first needed, kept outside the tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).parent / "peers"
DEFAULT_FOLDER = Path("~/.cache/momentum-serve/peers").expanduser()
_STAMP = "installed.txt"  # the requirements that the environment was made from


class UnavailableError(Exception):
    """A peer cannot be installed or started on this machine; the message says why."""


def requirements(name: str) -> Path:
    """The pinned requirements of a peer."""
    return PEERS / f"{name}.txt"


def version(name: str) -> str:
    """The pinned version of a peer, whose own line is the first."""
    return requirements(name).read_text().splitlines()[0].partition("==")[2]


def python(name: str, folder: Path, interpreter: str | None = None) -> Path:
    """The interpreter of a peer's environment, which is made or brought up to date if need be.

    Args:
        name: of the peer.
        folder: that holds the environments.
        interpreter: to make it from; default this one.

    Raises:
        UnavailableError
    """
    base = shutil.which(interpreter or sys.executable)
    if base is None:
        raise UnavailableError(f"{interpreter} is needed, and not there")
    environment, wanted = folder / name, requirements(name).read_text()
    program, stamp = environment / "bin/python", environment / _STAMP
    if not (stamp.is_file() and stamp.read_text() == wanted):
        print(f"{name}: installing into {environment}", flush=True)
        _run([base, "-m", "venv", "--clear", str(environment)])
        _run([str(program), "-m", "pip", "install", "--quiet", "-r", str(requirements(name))])
        stamp.write_text(wanted)
    return program


def _run(command: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)  # noqa: S603
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no word"]
        raise UnavailableError(f"`{' '.join(command)}` failed: {lines[-1]}")
