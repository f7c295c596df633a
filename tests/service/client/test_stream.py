"""`python -m service stream` against real servers."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.service.client.command import COMMAND, SECONDS, Proxy, Run, rest, started, url


def test_a_file_is_heard_as_by_the_other_endpoint(run: Run, small_server: Any, recording: Path) -> None:
    status, printed, errors = run(recording, "--url", url(small_server), "--speed", 0)
    assert (status, errors) == (0, [])
    answer = small_server.client.post("/v1/frames", content=recording.read_bytes()).json()
    expected = [
        f"{segment['start']:8.2f} {segment['end']:8.2f} s  {segment['label']} {segment['probability']:.2f}"
        for segment in answer["segments"]
    ]
    utterance, frames = answer["utterance"], len(answer["labels"])
    expected.append(
        f"result: {utterance['label']} {utterance['probability']:.2f} ({SECONDS:.2f} s, {frames} frames)"
    )
    assert printed == expected


def test_it_comes_back_when_the_connection_is_lost(
    run: Run, small_server: Any, proxy: Proxy, recording: Path
) -> None:
    undisturbed = run(recording, "--url", url(small_server), "--speed", 0)
    with started(recording, "--url", url(proxy), "--speed", 4, "--chunk-ms", 20) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        for _ in range(2):
            proxy.cut()
            lines += [process.stdout.readline() for _ in range(2)]
        printed, errors = rest(process)
    assert process.returncode == 0
    assert "".join(lines) + printed == "".join(line + "\n" for line in undisturbed[1])
    notes = [line.split(" (")[0] for line in errors.splitlines()]
    assert notes == ["lost the connection", "came back"] * 2
    assert proxy.made == 3


def test_it_follows_a_stream_that_is_moved(
    run: Run, serve: Any, small_store: Path, small_server: Any, proxy: Proxy, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    path = tmp_path / "sound.wav"
    soundfile.write(path, np.repeat(rng.uniform(0, 1, 16), 1000) * rng.uniform(-1, 1, 16_000), 8000)
    undisturbed = run(path, "--url", url(small_server), "--speed", 0)
    with (
        serve("--store", small_store) as other,
        started(path, "--url", url(proxy), "--speed", 4, "--chunk-ms", 20) as process,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline()]
        state = f"/v1/streams/{proxy.stream}/state"
        proxy.target = other.address
        document = small_server.client.get(state, params={"close": "true"}).content
        assert process.stderr.readline().startswith("lost the connection (the stream was moved to another")
        while proxy.made < 3:  # the stream has not arrived there yet
            time.sleep(0.01)
        assert other.client.put(state, content=document).status_code == 201
        printed, errors = rest(process)
    assert (process.returncode, errors) == (0, "came back\n")
    assert "".join(lines) + printed == "".join(line + "\n" for line in undisturbed[1])


def test_a_long_chunk_is_cut_to_what_the_server_takes(
    run: Run, serve: Any, small_store: Path, recording: Path
) -> None:
    with serve("--store", small_store, "--max-chunk-bytes", 1024) as server:
        status, printed, _ = run(recording, "--url", url(server), "--speed", 0, "--chunk-ms", 1000)
    assert status == 0
    assert printed[-1].endswith("(2.00 s, 200 frames)")


def test_a_file_without_audio(run: Run, small_server: Any, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 8000)
    status, printed, _ = run(tmp_path / "empty.wav", "--url", url(small_server))
    assert (status, printed) == (0, ["result: nothing heard (0.00 s, 0 frames)"])


def test_files_that_cannot_be_read(run: Run, small_server: Any, tmp_path: Path, recording: Path) -> None:
    (tmp_path / "text.wav").write_text("no audio")
    (tmp_path / "samples.raw").write_bytes(bytes(1000))
    damaged = tmp_path / "damaged.flac"
    damaged.write_bytes(recording.read_bytes()[:10_000] + b"x" * 100_000)
    for path, message in (
        (tmp_path / "nothing.wav", "there is no file "),
        (tmp_path, f"there is no file {tmp_path}"),
        (tmp_path / "text.wav", "cannot read "),
        (tmp_path / "samples.raw", f"cannot read {tmp_path}/samples.raw: it is raw audio"),
        (damaged, "cannot read "),
    ):
        status, _, errors = run(path, "--url", url(small_server), "--speed", 0)
        assert status == 1
        assert errors[-1].startswith(f"python -m service stream: {message}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of the arguments file --microphone is required"),
        (["a.wav", "--microphone"], "argument --microphone: not allowed with argument file"),
        (["a.wav", "--speed", "-1"], "argument --speed: -1 is not from 0 to 1e+06"),
        (["a.wav", "--speed", "nan"], "argument --speed: nan is not from 0 to 1e+06"),
        (["a.wav", "--chunk-ms", "0"], "argument --chunk-ms: 0 is not from 1 to 10000"),
        (["a.wav", "--url", "http://127.0.0.1/"], "scheme isn't ws or wss"),
        (["a.wav", "--url", "ws://[::1"], "Invalid IPv6 URL"),
        (["a.wav", "--url", "ws://127.0.0.1:99999/"], "Port out of range 0-65535"),
        (["a.wav", "--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_wrong_arguments(run: Run, arguments: list[str], message: str) -> None:
    status, _, errors = run(*arguments)
    assert status == 2
    assert "error: " in errors[-1]
    assert errors[-1].endswith(message)


def test_on_a_terminal_there_is_a_live_line(small_server: Any, recording: Path) -> None:
    main, terminal = pty.openpty()
    command = [*COMMAND, str(recording), "--url", url(small_server), "--speed", "10"]
    with subprocess.Popen(command, stdout=terminal) as process:
        os.close(terminal)
        shown = b""
        while select.select([main], [], [], 60)[0]:
            try:
                shown += os.read(main, 65536)
            except OSError:  # the terminal's other end is closed
                break
    os.close(main)
    assert process.returncode == 0
    assert re.search(rb"\r\x1b\[K +\d\.\d\d s  (quiet|soft|loud) 0\.\d\d", shown)
    assert shown.endswith(b"(2.00 s, 200 frames)\r\n")


def test_interrupting_a_file(small_server: Any, recording: Path) -> None:
    with started(recording, "--url", url(small_server)) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = rest(process)
    assert (process.returncode, errors) == (130, "")
