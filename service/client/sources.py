"""Where the streaming client takes audio from: a file, or the microphone."""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import soundfile
from numpy.typing import NDArray

Samples = NDArray[np.float32]

_KEPT_SECONDS = 300  # of what the microphone heard: a longer outage can't be made up for


class SourceError(Exception):
    """There is no audio to be had; the message says why, in one line."""


class Source(Protocol):
    """Mono audio that can be read again, from any sample that is not too long ago."""

    rate: int
    recorded: bool
    """Whether all of it is there already, and so has to be sent at a speed of choice."""

    async def read(self, start: int, count: int) -> Samples:
        """The samples from `start` on: `count`, or fewer at the end, or none after it.

        Raises:
            SourceError
        """


class File:
    """A file that soundfile can decode; channels are mixed by their mean.

    Args:
        path: of the file.

    Raises:
        SourceError: it can't be read.
    """

    recorded = True

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = soundfile.SoundFile(path)
        except soundfile.LibsndfileError as error:
            if not path.is_file():
                raise SourceError(f"there is no file {path}") from None
            raise SourceError(f"cannot read {path}: {error.error_string}") from None
        except TypeError:  # of headerless files, of which soundfile would have to be told everything
            raise SourceError(f"cannot read {path}: it is raw audio; expected a file with a header") from None
        self.rate: int = self._file.samplerate

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    async def read(self, start: int, count: int) -> Samples:
        """See `Source`."""
        try:
            if self._file.tell() != start:
                self._file.seek(start)
            block: Samples = self._file.read(count, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise SourceError(f"cannot read {self._path}: {error.error_string}") from None
        mono: Samples = block.mean(axis=1, dtype=np.float32)
        return mono


class Microphone:
    """The default microphone, until `stop`.

    Raises:
        SourceError: sounddevice is not installed, or there is no microphone.
    """

    recorded = False

    def __init__(self) -> None:
        try:
            import sounddevice
        except (ImportError, OSError) as error:  # OSError: it lacks the library PortAudio
            raise SourceError(
                f"the microphone needs the package sounddevice ({error}); "
                "install it in the project's folder with: pip install -e '.[microphone]'"
            ) from None
        try:
            self.rate = int(sounddevice.query_devices(kind="input")["default_samplerate"])
            self._stream = sounddevice.InputStream(
                self.rate, channels=1, dtype="float32", callback=self._hear
            )
        except (sounddevice.PortAudioError, ValueError) as error:
            raise SourceError(f"there is no microphone: {error}") from None
        self._loop = asyncio.get_running_loop()
        self._heard: deque[Samples] = deque()
        self._first = 0  # the number of the first sample kept
        self._end = 0
        self._over = False
        self._news = asyncio.Event()

    def __enter__(self) -> Self:
        self._stream.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def stop(self) -> None:
        """Hear no more."""
        self._over = True
        self._news.set()

    async def read(self, start: int, count: int) -> Samples:
        """See `Source`. Waits until so much has been said."""
        while self._end < start + count and not self._over:
            self._news.clear()
            await self._news.wait()
        if start < self._first:
            raise SourceError(f"the connection was lost for more than {_KEPT_SECONDS} seconds")
        begin, blocks = self._end, [np.empty(0, np.float32)]
        for block in reversed(self._heard):  # what is wanted is near the end
            if begin <= start:
                break
            begin -= len(block)
            blocks.insert(0, block)
        return np.concatenate(blocks)[start - begin :][:count]

    def _hear(self, block: Samples, *_: Any) -> None:
        """Called in a thread of sounddevice's."""
        self._loop.call_soon_threadsafe(self._keep, block[:, 0].copy())

    def _keep(self, samples: Samples) -> None:
        if self._over:
            return
        self._heard.append(samples)
        self._end += len(samples)
        while self._end - self._first > _KEPT_SECONDS * self.rate:
            self._first += len(self._heard.popleft())
        self._news.set()
