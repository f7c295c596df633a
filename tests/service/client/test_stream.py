"""`python -m service stream` against real servers."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as serve_websocket

from service.client import stream as client

SECONDS = 2
COMMAND = [sys.executable, "-W", "error", "-m", "service", "stream"]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds in stereo, of changing loudness."""
    rng = np.random.default_rng(0)
    count = 16_000 * SECONDS
    mono = np.repeat(rng.uniform(0, 1, count // 2000), 2000) * rng.uniform(-1, 1, count)
    path = tmp_path_factory.mktemp("audio") / "two seconds.flac"
    soundfile.write(path, np.stack([mono, mono / 2], axis=1), 16_000)
    return path


@pytest.fixture(scope="module")
def live(serve: Any, small_store: Path) -> Iterator[Any]:
    with serve("--store", small_store) as server:
        yield server


def url(server: Any) -> str:
    return f"ws://{server.address[0]}:{server.address[1]}/v1/frames/stream"


Run = Callable[..., tuple[object, list[str], list[str]]]


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


def rest(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it still prints. (`communicate` would lose what has been read ahead.)"""
    assert process.stdout is not None
    assert process.stderr is not None
    printed, errors = process.stdout.read(), process.stderr.read()
    process.wait(timeout=60)
    return printed, errors


@contextmanager
def started(*arguments: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    command = [*COMMAND, *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class Proxy:
    """Passes connections on to a server, until told to cut them."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.target = target
        self.sockets: list[socket.socket] = []
        self.made = 0
        self.heard = False  # whether any frames were told
        self.stream = ""  # the last one that began
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.listener.getsockname()
        return host, port

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(self.target)
                self.sockets += [client, server]
                self.made += 1
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
                self.heard |= b'"frames"' in data
                if begun := re.search(rb'"type":"started","stream":"(\w+)"', data):
                    self.stream = begun[1].decode()
            sink.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        for end in self.sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.sockets.clear()


@pytest.fixture
def proxy(live: Any) -> Iterator[Proxy]:
    proxy = Proxy(live.address)
    yield proxy
    proxy.listener.close()
    proxy.cut()


def test_a_file_is_heard_as_by_the_other_endpoint(run: Run, live: Any, recording: Path) -> None:
    status, printed, errors = run(recording, "--url", url(live), "--speed", 0)
    assert (status, errors) == (0, [])
    answer = live.client.post("/v1/frames", content=recording.read_bytes()).json()
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
    run: Run, live: Any, proxy: Proxy, recording: Path
) -> None:
    undisturbed = run(recording, "--url", url(live), "--speed", 0)
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
    run: Run, serve: Any, small_store: Path, live: Any, proxy: Proxy, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    path = tmp_path / "sound.wav"
    soundfile.write(path, np.repeat(rng.uniform(0, 1, 16), 1000) * rng.uniform(-1, 1, 16_000), 8000)
    undisturbed = run(path, "--url", url(live), "--speed", 0)
    with (
        serve("--store", small_store) as other,
        started(path, "--url", url(proxy), "--speed", 4, "--chunk-ms", 20) as process,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline()]
        state = f"/v1/streams/{proxy.stream}/state"
        proxy.target = other.address
        document = live.client.get(state, params={"close": "true"}).content
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


def test_a_file_without_audio(run: Run, live: Any, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 8000)
    status, printed, _ = run(tmp_path / "empty.wav", "--url", url(live))
    assert (status, printed) == (0, ["result: nothing heard (0.00 s, 0 frames)"])


def test_a_server_that_does_not_come_back(serve: Any, small_store: Path, recording: Path) -> None:
    with (
        serve("--store", small_store, "--stream-resume-seconds", 0.3) as server,
        started(recording, "--url", url(server)) as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        server.process.kill()
        _, errors = rest(process)
    assert process.returncode == 1
    last = errors.splitlines()[-1]
    reason = f"lost the connection to {url(server)} and did not come back in 0.3 seconds: "
    assert last.startswith(f"python -m service stream: {reason}")


def test_a_server_that_was_started_anew(serve: Any, small_store: Path, recording: Path) -> None:
    with serve("--store", small_store) as first, started(recording, "--url", url(first)) as process:
        assert process.stdout is not None
        process.stdout.readline()
        first.stop()
        with serve("--store", small_store, "--port", first.address[1]):
            _, errors = rest(process)
    assert process.returncode == 1
    lost, failed = errors.splitlines()
    assert lost == "lost the connection (the server is shutting down), trying to come back"
    assert failed.startswith(
        "python -m service stream: the server ended the stream: no stream has this token; it ended long ago, "
        "or was another server's or this one's before it was started anew"
    )


def test_a_full_server(run: Run, serve: Any, small_store: Path, recording: Path) -> None:
    with (
        serve("--store", small_store, "--max-streams", 1) as server,
        started(recording, "--url", url(server)) as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        status, _, errors = run(recording, "--url", url(server))
    assert status == 1
    assert errors == [
        "python -m service stream: the server ended the stream: 1 streams are open, as many as this server "
        "takes; expected: another attempt in 5 seconds"
    ]


def test_files_that_cannot_be_read(run: Run, live: Any, tmp_path: Path, recording: Path) -> None:
    (tmp_path / "text.wav").write_text("no audio")
    damaged = tmp_path / "damaged.flac"
    damaged.write_bytes(recording.read_bytes()[:10_000] + b"x" * 100_000)
    for path, message in (
        (tmp_path / "nothing.wav", "there is no file "),
        (tmp_path, f"there is no file {tmp_path}"),
        (tmp_path / "text.wav", "cannot read "),
        (damaged, "cannot read "),
    ):
        status, _, errors = run(path, "--url", url(live), "--speed", 0)
        assert status == 1
        assert errors[-1].startswith(f"python -m service stream: {message}")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ws://127.0.0.1:9/v1/frames/stream", "Connect call failed"),
        ("http://127.0.0.1/", "scheme isn't ws or wss"),
        ("ws://nowhere.invalid/", "Name or service not known|Temporary failure in name resolution"),
    ],
)
def test_servers_that_cannot_be_reached(run: Run, recording: Path, address: str, message: str) -> None:
    status, _, errors = run(recording, "--url", address)
    assert status == 1
    (line,) = errors
    assert re.search(f"^python -m service stream: cannot stream to {address}: .*({message})", line)


@contextmanager
def answering(*answers: str) -> Iterator[str]:
    """The address of a server that answers each connection's first message with one of these, and closes."""
    left = list(answers)

    def answer(connection: ServerConnection) -> None:
        connection.recv()
        connection.send(left.pop(0) if left else "")
        connection.close(1001)

    with serve_websocket(answer, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield "ws://{}:{}/".format(*server.socket.getsockname())
        finally:
            server.shutdown()
            thread.join()


SHUTTING_DOWN = '{"type": "error", "code": "shutting_down", "detail": "the server is shutting down"}'


def test_a_server_that_stops_before_the_stream_begins(run: Run, recording: Path) -> None:
    with answering(SHUTTING_DOWN) as address:
        status, out, error = run(recording, "--url", address)
    assert (status, out) == (1, [])
    assert error == [f"python -m service stream: cannot stream to {address}: the server is shutting down"]


def test_a_server_that_stops_when_the_client_comes_back(run: Run, recording: Path) -> None:
    started = {"type": "started", "hop_seconds": 0.01, "resume_seconds": 0.5, "resume": "a.b.0"}
    started["limits"] = {"message_bytes": 2**16}
    with answering(json.dumps(started), *[SHUTTING_DOWN] * 9) as address:
        status, out, error = run(recording, "--url", address)
    assert (status, out) == (1, [])
    assert error[0].startswith("lost the connection (")
    assert error[1:] == [
        f"python -m service stream: lost the connection to {address} and did not come back in 0.5 seconds: "
        "the server is shutting down"
    ]


@pytest.mark.parametrize("answer", ["hello", "[1]", '{"type": "start", "sample_rate": 8000}', "{}"])
def test_a_websocket_of_something_else(run: Run, recording: Path, answer: str) -> None:
    with answering(answer) as address:
        status, out, error = run(recording, "--url", address)
    assert (status, out) == (1, [])
    assert error == [f"python -m service stream: {address} is no stream of this service: it says {answer!r}"]


def test_a_server_of_something_else(run: Run, live: Any, recording: Path) -> None:
    status, _, errors = run(recording, "--url", url(live).replace("stream", "nothing"))
    assert status == 1
    assert errors[0].endswith("server rejected WebSocket connection: HTTP 403")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of the arguments file --microphone is required"),
        (["a.wav", "--microphone"], "argument --microphone: not allowed with argument file"),
        (["a.wav", "--speed", "-1"], "argument --speed: -1 is not from 0 to 1e+06"),
        (["a.wav", "--speed", "nan"], "argument --speed: nan is not from 0 to 1e+06"),
        (["a.wav", "--chunk-ms", "0"], "argument --chunk-ms: 0 is not from 1 to 10000"),
        (["a.wav", "--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_wrong_arguments(run: Run, arguments: list[str], message: str) -> None:
    status, _, errors = run(*arguments)
    assert status == 2
    assert errors[-1].endswith(f"error: {message}")


def test_on_a_terminal_there_is_a_live_line(live: Any, recording: Path) -> None:
    main, terminal = pty.openpty()
    command = [*COMMAND, str(recording), "--url", url(live), "--speed", "10"]
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


def test_no_microphone(live: Any, fake_microphone: Callable[..., dict[str, str]]) -> None:
    with started(
        "--microphone", "--url", url(live), env=fake_microphone("raise PortAudioError('No device')")
    ) as process:
        _, errors = rest(process)
    assert (process.returncode, errors) == (
        1, "python -m service stream: there is no microphone: No device\n"
    )  # fmt: skip


def test_no_sounddevice(run: Run, live: Any) -> None:
    status, _, errors = run("--microphone", "--url", url(live))
    assert status == 1
    assert errors == [
        "python -m service stream: the microphone needs the package sounddevice (No module named "
        "'sounddevice'); install it in the project's folder with: pip install -e '.[microphone]'"
    ]


def test_interrupting_a_file(live: Any, recording: Path) -> None:
    with started(recording, "--url", url(live)) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = rest(process)
    assert (process.returncode, errors) == (130, "")
