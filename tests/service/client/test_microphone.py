"""`python -m service stream --microphone`, with one that is none."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.server import ServerConnection, serve

from tests.service.client.command import Proxy, Run, rest, started, url

FAKE_SOUNDDEVICE = """
import threading, time
import numpy as np

class PortAudioError(Exception): pass

def query_devices(kind):
    assert kind == "input"
    DEVICE
    return {"default_samplerate": 8000.0}

class InputStream:
    def __init__(self, rate, channels, dtype, callback):
        assert (rate, channels, dtype) == (8000, 1, "float32")
        self.callback = callback
    def start(self):
        self.thread = threading.Thread(target=self.speak)
        self.going = True
        self.thread.start()
    def speak(self):
        while self.going:
            self.callback(np.full((160, 1), 0.9, np.float32), 160, None, None)
            time.sleep(0.005)
    def close(self):
        self.going = False
        self.thread.join()
"""


@pytest.fixture
def fake_microphone(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """An environment in which sounddevice has one microphone, or runs this statement when asked for it."""

    def fake(device: str = "") -> dict[str, str]:
        (tmp_path / "sounddevice.py").write_text(FAKE_SOUNDDEVICE.replace("DEVICE", device))
        return {**os.environ, "PYTHONPATH": str(tmp_path)}

    return fake


def test_the_microphone_until_interrupted(
    proxy: Proxy, fake_microphone: Callable[..., dict[str, str]]
) -> None:
    with started("--microphone", "--url", url(proxy), env=fake_microphone()) as process:
        assert process.stderr is not None
        while not proxy.heard:
            time.sleep(0.01)
        proxy.cut()
        assert process.stderr.readline().startswith("lost the connection")
        assert process.stderr.readline() == "came back\n"
        process.send_signal(signal.SIGINT)
        printed, _ = rest(process)
    assert process.returncode == 0
    segment, result = printed.splitlines()
    assert re.fullmatch(r" +0\.00 +\d+\.\d\d s  loud 0\.\d\d", segment)
    assert result.startswith("result: loud ")


def test_a_second_interruption_waits_for_no_server(fake_microphone: Callable[..., dict[str, str]]) -> None:
    begun = threading.Event()
    limits = {"message_bytes": 65536}
    answer = {"type": "started", "hop_seconds": 0.01, "resume_seconds": 60, "limits": limits, "resume": "x"}

    def hang(connection: ServerConnection) -> None:
        connection.recv()
        connection.send(json.dumps(answer))
        begun.set()
        for _ in connection:
            pass

    with serve(hang, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        to = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/"
        with started("--microphone", "--url", to, env=fake_microphone()) as process:
            assert begun.wait(60)
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)
            assert process.poll() is None  # the result may still come
            process.send_signal(signal.SIGINT)
            rest(process)
    assert process.returncode == 130


def test_no_microphone(small_server: Any, fake_microphone: Callable[..., dict[str, str]]) -> None:
    with started(
        "--microphone", "--url", url(small_server), env=fake_microphone("raise PortAudioError('No device')")
    ) as process:
        _, errors = rest(process)
    assert (process.returncode, errors) == (
        1, "python -m service stream: there is no microphone: No device\n"
    )  # fmt: skip


def test_no_sounddevice(run: Run, small_server: Any) -> None:
    status, _, errors = run("--microphone", "--url", url(small_server))
    assert status == 1
    assert errors == [
        "python -m service stream: the microphone needs the package sounddevice (No module named "
        "'sounddevice'); install it in the project's folder with: pip install -e '.[microphone]'"
    ]
