"""Audio files for tests, and ways to damage them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

# What libsndfile calls them: format, encoding, and a sample rate that the encoding has.
FILES = [
    *(
        ("WAV", encoding, 44_100)
        for encoding in ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "PCM_U8", "ULAW", "ALAW")
    ),
    *(("WAV", encoding, 16_000) for encoding in ("IMA_ADPCM", "MS_ADPCM", "GSM610")),
    ("WAVEX", "PCM_16", 48_000),
    ("RF64", "PCM_16", 48_000),
    ("W64", "PCM_16", 48_000),
    ("FLAC", "PCM_16", 44_100),
    ("FLAC", "PCM_24", 96_000),
    ("OGG", "VORBIS", 44_100),
    ("OGG", "OPUS", 48_000),
    ("MP3", "MPEG_LAYER_III", 44_100),
    ("NIST", "PCM_16", 16_000),
    ("NIST", "ULAW", 8000),
    ("AIFF", "PCM_16", 44_100),
    ("AU", "ULAW", 8000),
    ("CAF", "ALAC_16", 44_100),
]


def encode(
    samples: NDArray[Any], rate: int = 8000, container: str = "WAV", encoding: str | None = None
) -> bytes:
    """An audio file of samples [time] or [time, channels]."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=container, subtype=encoding)
    return buffer.getvalue()


def tone(*levels: float, rate: int = 8000, seconds: float = 0.5) -> NDArray[np.float64]:
    """A tone of 440 Hz [time] at one level after the other, each for so long."""
    each = round(seconds * rate)
    envelope = np.repeat(levels, each)
    return np.asarray(envelope * np.sin(2 * np.pi * 440 / rate * np.arange(len(envelope))))


def announce(flac: bytes, samples: int) -> bytes:
    """The FLAC file with another number of samples in its header; 0 stands for an unknown number."""
    fields = int.from_bytes(flac[18:26]) >> 36 << 36 | samples
    return flac[:18] + fields.to_bytes(8) + flac[26:]
