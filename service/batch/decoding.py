"""From a file to what a model reads, by the code and within the limits of the HTTP service, in processes of
its own: decoding is Python for the most part, which one process runs on one CPU.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import stat
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from service.batch.files import Task
from service.digits import images, ink, pixels
from service.engine import Model
from service.frames import audio
from service.frames.routes import timing
from service.settings import Settings

Decoded = NDArray[np.float32]


@dataclass(frozen=True)
class Recipe:
    """How files become what a model reads.

    Attributes:
        task: of the model.
        max_bytes: of a file.
        max_pixels: of an image.
        audio: what a recording may be.
        sample_rate: of the model's waveforms, Hz.
        hop_length: samples a frame; fewer are no recording.
    """

    task: Task
    max_bytes: int
    max_pixels: int
    audio: audio.Limits
    sample_rate: int
    hop_length: int

    @classmethod
    def of(cls, model: Model, settings: Settings) -> Self:
        """For a model, within a server's limits."""
        rate, hop = timing(model.card) if model.card.task == "frames" else (0, 0)
        rates = (settings.min_sample_rate, settings.max_sample_rate)
        limits = audio.Limits(
            settings.max_audio_seconds, settings.max_audio_samples, settings.max_audio_channels, rates
        )
        return cls(model.card.task, settings.max_body_bytes, settings.max_image_pixels, limits, rate, hop)

    def decode(self, data: bytes) -> Decoded:
        """What a model reads of a file.

        Returns:
            [784] pixels, or a waveform [samples].

        Raises:
            ValueError: nothing can be made of the file; the message says why.
        """
        if self.task == "digits":
            grey = images.decode(data, self.max_pixels)
            try:
                return ink.to_mnist(grey).reshape(pixels.PIXELS)
            except ink.NoInkError as error:
                raise ValueError(f"no digit was found: {error}") from error
        waveform = audio.decode(data, self.sample_rate, self.audio)
        if len(waveform) < self.hop_length:
            raise ValueError(
                f"the audio has {len(waveform)} samples at {self.sample_rate} Hz, which is no frame"
            )
        return waveform


class DecodersError(Exception):
    """Nothing can be decoded, whatever it is."""


class Decoders:
    """Processes that read and decode files.

    Args:
        count: how many.
        max_bytes: of what they made, while that has not been let go of; no file is begun above it.
    """

    def __init__(self, count: int, max_bytes: int) -> None:
        # Forked from a process without threads, that has imported what they need: ready at once.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__])
        self._count = count
        self._pool = self._processes(count)
        # One more than there are processes, so that each has its next when it is done.
        self._turns = asyncio.Semaphore(count + 1)
        self._max_bytes = max_bytes
        self._held = 0
        self._room = asyncio.Condition()
        self._alone = asyncio.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    async def decode(self, recipe: Recipe, paths: Sequence[str]) -> list[Decoded | str]:
        """What each file holds, or what is wrong with it. `release` what it holds in the end.

        Raises:
            DecodersError
        """
        async with self._turns:
            async with self._room:
                await self._room.wait_for(lambda: self._held < self._max_bytes)
            decoded = await self._decode(recipe, paths)
            self._held += _size(decoded)
            return decoded

    async def release(self, decoded: Sequence[Decoded | str]) -> None:
        """Let go of what was decoded."""
        async with self._room:
            self._held -= _size(decoded)
            self._room.notify_all()

    async def _decode(self, recipe: Recipe, paths: Sequence[str]) -> list[Decoded | str]:
        pool = self._pool
        try:
            return await self._run(pool, recipe, paths)
        except BrokenProcessPool:
            # A file ended the process that decoded it, and with it all that were being decoded.
            if self._pool is pool:
                self._pool = self._processes(self._count)
            async with self._alone:
                return [await self._decode_alone(recipe, path) for path in paths]

    async def _decode_alone(self, recipe: Recipe, path: str) -> Decoded | str:
        try:
            with self._processes(1) as pool:
                await self._run(pool, recipe, [])
        except BrokenProcessPool as error:  # by no file
            raise DecodersError("no process that decodes can be started") from error
        with self._processes(1) as pool:
            try:
                return (await self._run(pool, recipe, [path]))[0]
            except BrokenProcessPool:
                return "the process that decoded it was ended by the system"

    async def _run(
        self, pool: ProcessPoolExecutor, recipe: Recipe, paths: Sequence[str]
    ) -> list[Decoded | str]:
        return await asyncio.get_running_loop().run_in_executor(pool, read_all, recipe, paths)

    def _processes(self, count: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(count, self._context, _begin)


def read_all(recipe: Recipe, paths: Sequence[str]) -> list[Decoded | str]:
    """What each file holds, or what is wrong with it."""
    return [attempt(partial(_read_and_decode, recipe, path)) for path in paths]


def attempt(decode: Callable[[], Decoded]) -> Decoded | str:
    """What a file holds, or what is wrong with it."""
    try:
        return decode()
    except OSError as error:
        return f"the file cannot be read: {error.strerror or error}"
    except ValueError as error:
        return str(error)
    except Exception as error:  # one of millions of files must not end the work on the others
        return f"{type(error).__name__}: {error}"


def _read_and_decode(recipe: Recipe, path: str) -> Decoded:
    return recipe.decode(_read(path, recipe.max_bytes))


def _read(path: str, most: int) -> bytes:
    about = Path(path).stat()
    if not stat.S_ISREG(about.st_mode):  # to open a pipe would be to wait for its other end
        raise ValueError("this is not a regular file")
    if about.st_size > most:
        raise ValueError(f"the file has {about.st_size} bytes, and at most {most} are read")
    return Path(path).read_bytes()


def _begin() -> None:
    """Ctrl-C reaches all processes of a terminal: the first one decides what to do. When it is gone, so are
    these.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _size(decoded: Sequence[Decoded | str]) -> int:
    return sum(one.nbytes for one in decoded if not isinstance(one, str))
