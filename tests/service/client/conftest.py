"""The command in this process, what it is fed with, and a proxy to the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from service.client import stream as client
from tests.service.client.command import SECONDS, Proxy, Run


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds in stereo, of changing loudness."""
    rng = np.random.default_rng(0)
    count = 16_000 * SECONDS
    mono = np.repeat(rng.uniform(0, 1, count // 2000), 2000) * rng.uniform(-1, 1, count)
    path = tmp_path_factory.mktemp("audio") / "two seconds.flac"
    soundfile.write(path, np.stack([mono, mono / 2], axis=1), 16_000)
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process: its exit status, and the lines on standard output and error."""

    def in_process(*arguments: object) -> tuple[object, list[str], list[str]]:
        try:
            status: object = client.main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            status = exit_.code
        printed = capsys.readouterr()
        return status, printed.out.splitlines(), printed.err.splitlines()

    return in_process


@pytest.fixture
def proxy(small_server: Any) -> Iterator[Proxy]:
    proxy = Proxy(small_server.address)
    yield proxy
    proxy.listener.close()
    proxy.cut()
