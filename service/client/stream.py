"""`python -m service stream`: send a file or the microphone to a server, and print what it hears."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.uri import parse_uri

from service.client.sources import File, Microphone, Source, SourceError

KEY = "MOMENTUM_API_KEY"

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 3.0  # seconds between attempts to come back
_ANSWER_SECONDS = 20
_SHUTTING_DOWN, _MOVED = "shutting_down", "moved"  # errors after which to come back, to another server
_UNKNOWN = "unknown_stream"  # by a server to which the stream has not been moved yet


class StreamError(Exception):
    """The stream has failed for good; the message says why, in one line."""


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status: 0; 1 after a line that says what failed.

    Wrong arguments exit with 2.
    """
    parser = argparse.ArgumentParser(
        "python -m service stream",
        description="Send audio to a running server as if it were spoken now, and print what it hears. "
        "A connection that is lost is made again, and the stream goes on where it was.",
        epilog=f"A server that wants an API key is shown the one in the environment variable {KEY}.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("file", nargs="?", type=Path, help="an audio file")
    source.add_argument("--microphone", action="store_true", help="the microphone instead, until Ctrl-C")
    parser.add_argument(
        "--url", type=_address, default="ws://127.0.0.1:8000/v1/frames/stream", help="default: %(default)s"
    )
    parser.add_argument(
        "--speed", type=_number(0, 1e6), default=1.0, help="1 is real time, 0 as fast as possible; default: 1"
    )
    parser.add_argument(
        "--chunk-ms", type=_number(1, 10_000), default=100.0, help="audio in a message; default: 100"
    )
    chosen = parser.parse_args(arguments)
    display = Display()
    try:
        asyncio.run(_stream(chosen, display))
    except (StreamError, SourceError) as error:
        display.clear()
        print(f"python -m service stream: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        display.clear()
        return 130
    return 0


def _address(text: str) -> str:
    try:
        parse_uri(text)
        return text
    except (ValueError, InvalidURI) as error:
        raise argparse.ArgumentTypeError(
            f"{text} is no address such as ws://host:port/path: {error}"
        ) from None


def _number(least: float, most: float) -> Any:
    def number(text: str) -> float:
        value = float(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not from {least:g} to {most:g}")
        return value

    return number


async def _stream(chosen: argparse.Namespace, display: Display) -> None:
    with Microphone() if chosen.microphone else File(chosen.file) as source:
        if isinstance(source, Microphone):
            loop = asyncio.get_running_loop()

            def stop() -> None:
                source.stop()
                loop.remove_signal_handler(signal.SIGINT)  # a second Ctrl-C does not wait for the server

            loop.add_signal_handler(signal.SIGINT, stop)
        await Streamer(source, chosen.url, chosen.speed, chosen.chunk_ms / 1000, display).run()


class Display:
    """Prints what is heard: a line a segment, and on a terminal what is heard right now below them."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._hop = 0.0

    def show(self, message: dict[str, Any]) -> None:
        """Print a message of the server."""
        match message["type"]:
            case "started":
                self._hop = message["hop_seconds"]
            case "frames" if self._live:
                time = message["time"] + len(message["labels"]) * self._hop
                now, sure = message["labels"][-1], message["probabilities"][-1]
                print(f"\r\033[K{time:8.2f} s  {now} {sure:.2f}", end="", flush=True)
            case "segment":
                times = f"{message['start']:8.2f} {message['end']:8.2f} s"
                self.line(f"{times}  {message['label']} {message['probability']:.2f}")
            case "result":
                utterance = message["utterance"]
                said = (
                    f"{utterance['label']} {utterance['probability']:.2f}" if utterance else "nothing heard"
                )
                self.line(f"result: {said} ({message['duration']:.2f} s, {message['frames']} frames)")

    def line(self, text: str) -> None:
        """Print a line above the live one."""
        self.clear()
        print(text, flush=True)

    def note(self, text: str) -> None:
        """Tell, apart from what is heard, how it goes."""
        self.clear()
        print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Remove the live line."""
        if self._live:
            print("\r\033[K", end="", flush=True)


class Streamer:
    """Carries one stream over as many connections as it takes.

    Args:
        source: of the audio.
        url: of the server's WebSocket.
        speed: of recorded audio: 1 is real time, 0 as fast as possible.
        chunk_seconds: how much audio is in a message.
        display: is shown every message.
    """

    def __init__(
        self, source: Source, url: str, speed: float, chunk_seconds: float, display: Display
    ) -> None:
        self._source = source
        self._url = url
        self._speed = speed if source.recorded else 0.0
        self._chunk = max(1, round(chunk_seconds * source.rate))
        self._display = display
        key = os.environ.get(KEY)
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._began: float | None = None
        self._token: str | None = None
        self._resume_seconds = 0.0
        self._connected = False
        self._moved = False
        self._failure: SourceError | None = None

    async def run(self) -> None:
        """Send all the audio and show all the answers.

        Raises:
            StreamError: the server refuses it, or can't be reached (again).
            SourceError
        """
        time = asyncio.get_running_loop().time
        lost, pause = 0.0, 0.0
        while True:
            try:
                return await self._converse()
            except (OSError, ConnectionClosed, InvalidHandshake) as error:
                if self._token is None:
                    raise StreamError(f"cannot stream to {self._url}: {_told(error)}") from error
                if self._connected:
                    self._connected = False
                    lost, pause = time(), _FIRST_PAUSE
                    self._display.note(f"lost the connection ({_told(error)}), trying to come back")
                if time() - lost > self._resume_seconds:
                    raise StreamError(
                        f"lost the connection to {self._url} and did not come back in "
                        f"{self._resume_seconds:g} seconds: {_told(error)}"
                    ) from error
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _converse(self) -> None:
        """Make a connection, and go on until the result or the connection's end."""
        # a server that is busy with what was sent answers no pings
        async with connect(
            self._url, compression=None, ping_timeout=None, additional_headers=self._headers
        ) as socket:
            start = await self._open(socket)
            sender = asyncio.create_task(self._send(socket, start))
            try:
                await self._receive(socket)
            except ConnectionClosed:
                if self._failure is not None:
                    raise self._failure from None
                raise
            finally:
                sender.cancel()
                await asyncio.wait([sender])

    async def _open(self, socket: ClientConnection) -> int | None:
        """Begin the stream or resume it; from which sample on to send, None if all has been sent."""
        if self._token is None:
            opening = {"type": "start", "sample_rate": self._source.rate, "encoding": "float32"}
        else:
            opening = {"type": "resume", "token": self._token}
        await socket.send(orjson.dumps(opening).decode())
        async with asyncio.timeout(_ANSWER_SECONDS):
            answer = self._read(await socket.recv())
        self._connected = True
        if answer["type"] == "resumed":
            self._moved = False
            self._display.note("came back")
            return None if answer["finished"] else answer["samples"]
        self._began = asyncio.get_running_loop().time()
        self._resume_seconds = answer["resume_seconds"]
        self._chunk = min(self._chunk, answer["limits"]["message_bytes"] // 4)
        return 0

    async def _send(self, socket: ClientConnection, start: int | None) -> None:
        if start is None:
            return
        try:
            while len(samples := await self._source.read(start, self._chunk)):
                start += len(samples)
                await self._wait_until_said(start)
                await socket.send(samples.astype("<f4").tobytes())
            await socket.send('{"type": "finish"}')
        except ConnectionClosed:
            pass  # as the receiver will notice, after the last messages
        except SourceError as error:
            self._failure = error
            await socket.close()

    async def _wait_until_said(self, end: int) -> None:
        if self._speed and self._began is not None:
            due = self._began + end / self._source.rate / self._speed
            await asyncio.sleep(due - asyncio.get_running_loop().time())

    async def _receive(self, socket: ClientConnection) -> None:
        while self._read(await socket.recv())["type"] != "result":
            pass

    def _read(self, text: str | bytes) -> dict[str, Any]:
        try:
            message: dict[str, Any] = orjson.loads(text)
            kind = message["type"]
            token = None if kind == "error" else message["resume"]
        except (orjson.JSONDecodeError, TypeError, KeyError):
            raise StreamError(f"{self._url} is no stream of this service: it says {text[:80]!r}") from None
        if kind == "error":
            code = message["code"]
            self._moved |= code == _MOVED
            if code in (_SHUTTING_DOWN, _MOVED) or (code == _UNKNOWN and self._moved):
                raise ConnectionResetError(message["detail"])
            expected = f"; expected: {message['expected']}" if "expected" in message else ""
            raise StreamError(f"the server ended the stream: {message['detail']}{expected}")
        self._token = token
        self._display.show(message)
        return message


def _told(error: Exception) -> str:
    return str(error) or type(error).__name__
