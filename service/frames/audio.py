"""Decode an audio file from a client: bytes -> mono waveform at a model's sample rate, safely.

WAV (also RF64, W64), FLAC, OGG (Vorbis, Opus), MP3, NIST SPHERE, AIFF, AU and CAF, at any rate and with any
number of channels within limits. Everything else, and everything broken, ends in one of the errors below.
Files are decoded block by block, so that a small one that expands to hours costs no more than the longest
allowed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

Waveform = NDArray[np.float32]

LOUDEST = 16.0  # times full scale: louder samples of a float file are no overshoot, but integers never scaled

# How files begin. libsndfile would go on to guess formats that say less of themselves.
_HEADS = (b"RIFF", b"RIFX", b"RF64", b"riff", b"fLaC", b"OggS", b"ID3", b"NIST_1A", b"FORM", b".snd", b"caff")
_BLOCK = 2**18  # samples decoded at a time, of all channels together
_UNKNOWN = 2**63 - 1  # libsndfile's number of frames where the header gives none


class UnreadableAudioError(ValueError):
    """The bytes are not audio in a known format, or the file is damaged."""


class UnsupportedAudioError(ValueError):
    """The file's sample rate or number of channels is out of range; nothing was decoded."""


class AudioTooLongError(ValueError):
    """The file announces, or turns out to hold, more than allowed; no more than that was decoded."""


class InvalidSamplesError(ValueError):
    """A float file holds NaN, infinity, or numbers far beyond full scale."""


@dataclass(frozen=True)
class Limits:
    """What a file may be.

    Attributes:
        seconds: its longest duration.
        samples: its most samples, all channels together; bounds the time that decoding takes.
        channels: its most channels.
        rates: its lowest and its highest sample rate, Hz.
    """

    seconds: float
    samples: int
    channels: int
    rates: tuple[int, int]


def decode(data: bytes, sample_rate: int, limits: Limits) -> Waveform:
    """Decode an audio file.

    Channels are mixed by their mean, and resampled by soxr's HQ recipe. What then exceeds full scale, as a
    float file can and as resampling may do by a little, is clipped.

    A file that was cut short is decoded as far as it goes where its format allows that (WAV, OGG, MP3, NIST,
    AU), and counts as damaged where it does not (FLAC, CAF).

    Args:
        data: the file's bytes.
        sample_rate: of the waveform to return, Hz.
        limits: what the file may be.

    Returns:
        [samples] in [-1, 1]. There may be none.

    Raises:
        UnreadableAudioError, UnsupportedAudioError, AudioTooLongError, InvalidSamplesError
    """
    if not data:
        raise UnreadableAudioError("the body is empty")
    if not (data.startswith(_HEADS) or (data[0] == 0xFF and data[1:2] >= b"\xe0")):  # the latter is MP3's
        raise UnreadableAudioError("the bytes are not audio in a known format")
    try:
        with _Sound(_Memory(data)) as sound:
            _check_header(sound, limits)
            mono = (block.mean(axis=1) for block in _blocks(sound, limits))
            pieces = [np.empty(0, np.float32), *_resampled(mono, sound.samplerate, sample_rate)]
            return np.concatenate(pieces).clip(-1, 1)
    except soundfile.LibsndfileError as error:
        says = error.error_string.rstrip(".")
        raise UnreadableAudioError(
            f"the audio file is damaged or of a kind that cannot be read (libsndfile: {says})"
        ) from error


def check_samples(samples: Waveform) -> None:
    """Make sure that samples of floating point, of any shape, are numbers that audio has.

    Raises:
        InvalidSamplesError
    """
    peak = max(samples.max(initial=0), -samples.min(initial=0))
    if not np.isfinite(peak):
        raise InvalidSamplesError("the audio has samples that are NaN or infinite")
    if peak > LOUDEST:
        raise InvalidSamplesError(f"the audio has a sample of size {peak:g}, where full scale is 1")


class _Memory(io.BytesIO):
    """A file in memory that stays where it is when told to go where it cannot: damaged headers do so, and
    libsndfile expects no exception then.
    """

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return self.tell()


class _Sound(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is read from its beginning to its end, and so need not seek after every block."""

    def seekable(self) -> bool:
        return False


def _check_header(sound: Any, limits: Limits) -> None:
    lowest, highest = limits.rates
    if not lowest <= sound.samplerate <= highest:
        raise UnsupportedAudioError(f"the audio has {sound.samplerate} samples a second")
    if sound.channels > limits.channels:
        raise UnsupportedAudioError(f"the audio has {sound.channels} channels")
    if sound.frames != _UNKNOWN:
        _check_length(sound, sound.frames, limits)


def _check_length(sound: Any, count: int, limits: Limits) -> None:
    if count > limits.seconds * sound.samplerate:
        raise AudioTooLongError(f"the audio lasts {count / sound.samplerate:.1f} seconds or more")
    if count * sound.channels > limits.samples:
        raise AudioTooLongError(
            f"the audio has {count} samples or more in each channel, and {sound.channels} channels"
        )


def _blocks(sound: Any, limits: Limits) -> Iterator[Waveform]:
    """The samples as they are decoded, [samples, channels]; each block overwrites the one before it."""
    buffer = np.empty((_BLOCK // sound.channels, sound.channels), np.float32)
    count = 0
    while len(block := sound.read(out=buffer)):
        count += len(block)
        _check_length(sound, count, limits)
        check_samples(block)
        yield block


def _resampled(blocks: Iterator[Waveform], rate: int, wanted: int) -> Iterator[Waveform]:
    """The blocks [samples] at another rate, as if they had been resampled whole."""
    if rate == wanted:
        yield from blocks
    else:
        stream = soxr.ResampleStream(rate, wanted, 1, dtype="float32", quality="HQ")
        for block in blocks:
            yield stream.resample_chunk(block)
        yield stream.resample_chunk(np.empty(0, np.float32), last=True)
