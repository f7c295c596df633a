"""Audio files as waveforms, and waveforms at other sample rates."""

import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from training.data.errors import DataError
from training.data.sphere import MAGIC as SPHERE_MAGIC
from training.data.sphere import stated_samples

MAX_SECONDS = 60.0  # of one utterance; in the corpora read here none lasts a quarter of that
SCALE = 2**15  # 16-bit samples per unit


def decode(content: bytes, source: Path, *, sample_rate: int) -> npt.NDArray[np.float32]:
    """Decode a recording: RIFF WAVE or NIST SPHERE, told apart by the content, whatever the file is called.

    Args:
        content: of the file.
        source: where it came from, for messages.
        sample_rate: what the file is expected to have, samples per second.

    Returns:
        float32 [n] in [-1, 1).

    Raises:
        DataError: the file is damaged or cut short, or is not one channel of 16-bit PCM at ``sample_rate``
            with 1 sample to ``MAX_SECONDS`` of them.
    """
    try:
        with soundfile.SoundFile(BytesIO(content)) as file:
            form = (file.samplerate, file.channels, file.subtype)
            samples: npt.NDArray[np.int16] = file.read(int(MAX_SECONDS * sample_rate) + 1, dtype="int16")
    except soundfile.LibsndfileError as error:
        found = f"{len(content):,} bytes starting {content[:8]!r}"
        raise DataError(f"{source}: found {found}, expected a WAV or NIST SPHERE file ({error})") from error
    if form != (sample_rate, 1, "PCM_16"):
        found = f"{form[1]} channel(s) of {form[2]} at {form[0]:,} Hz"
        raise DataError(f"{source}: found {found}, expected 1 channel of PCM_16 at {sample_rate:,} Hz")
    stated = _stated(content, source)
    if len(samples) > MAX_SECONDS * sample_rate:
        raise DataError(f"{source}: found more than {MAX_SECONDS:.0f} s, expected an utterance")
    if not 0 < stated <= len(samples):
        found = f"{len(samples):,} samples where its header states {stated:,}"
        raise DataError(f"{source}: found {found}, expected a whole recording that is not empty")
    return samples[:stated].astype(np.float32) / np.float32(SCALE)


def _stated(content: bytes, source: Path) -> int:
    """How many samples the header announces: libsndfile reads what is left of a file that was cut short."""
    if content.startswith(SPHERE_MAGIC):
        return stated_samples(content, source)
    position = 12  # after "RIFF", a size and "WAVE"
    while position + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, position)
        if name == b"data":
            return int(size) // 2
        position += 8 + size + size % 2
    raise DataError(f"{source}: found a file without a data chunk, expected RIFF WAVE or NIST SPHERE")


def resample(samples: npt.NDArray[np.float32], old: float, new: float) -> npt.NDArray[np.float32]:
    """A waveform at another sample rate, by soxr's high-quality linear-phase filter.

    Args:
        samples: [n] in [-1, 1].
        old: its sample rate, in any unit.
        new: the wanted one, in the same unit.

    Returns:
        [about n * new / old], clipped to [-1, 1], which the filter may exceed by ringing.
    """
    converted: npt.NDArray[np.float32] = soxr.resample(samples, old, new, quality="HQ")
    return np.clip(converted, -1, 1, out=converted)
