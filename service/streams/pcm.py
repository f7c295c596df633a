"""Audio as clients stream it: raw samples in pieces of any size -> waveform at a model's sample rate."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import soxr

from service.frames.audio import Waveform, check_samples

Encoding = Literal["pcm16", "float32"]  # both little endian

_DTYPES: dict[str, np.dtype[Any]] = {"pcm16": np.dtype("<i2"), "float32": np.dtype("<f4")}
_FULL_SCALE = np.float32(1 / 2**15)
_NONE = np.empty(0, np.float32)


class PCMDecoder:
    """Decodes one stream. The waveform does not depend on how its bytes are cut into pieces, and is what
    `audio.decode` makes of a file with the same samples.

    Args:
        encoding: of the samples.
        rate: their sample rate, Hz.
        wanted: the sample rate of the waveform, Hz.
        samples: how many another decoder has decoded, with which this one goes on.

    Attributes:
        encoding, rate: as given.
        samples: how many whole samples have been decoded, at `rate`.
    """

    def __init__(self, encoding: Encoding, rate: int, wanted: int, samples: int = 0) -> None:
        self.encoding = encoding
        self.rate = rate
        self.samples = samples
        self._dtype = _DTYPES[encoding]
        self._part = b""  # of a sample whose other bytes have not arrived
        self._resampler = (
            None if rate == wanted else soxr.ResampleStream(rate, wanted, 1, dtype="float32", quality="HQ")
        )

    @property
    def resampling(self) -> bool:
        """Whether samples are held in a resampler, whose state is not to be had."""
        return self._resampler is not None

    def count(self, data: bytes) -> int:
        """How many samples there will be once `data` is decoded too."""
        return self.samples + (len(self._part) + len(data)) // self._dtype.itemsize

    def decode(self, data: bytes) -> Waveform:
        """Decode the next bytes.

        Returns:
            [samples] in [-1, 1] at the wanted rate: those that can be told by now, which may be none. Louder
            ones are clipped.

        Raises:
            InvalidSamplesError: NaN, infinity, or numbers far beyond full scale. Nothing of `data` counts.
        """
        if self._part:
            data = self._part + data
        count = len(data) // self._dtype.itemsize
        samples = np.frombuffer(data, self._dtype, count)
        if self._dtype.kind == "i":
            waveform: Waveform = np.multiply(samples, _FULL_SCALE, dtype=np.float32)
        else:
            waveform = samples.astype(np.float32, copy=False)
            check_samples(waveform)
        self._part = data[count * self._dtype.itemsize :]
        self.samples += count
        if self._resampler is not None:
            waveform = self._resampler.resample_chunk(waveform)
        elif self._dtype.kind == "i":
            return waveform
        return waveform.clip(-1, 1)

    def finish(self) -> Waveform:
        """The rest of the waveform, [samples], which the resampler held back."""
        resampler, self._resampler = self._resampler, None
        if resampler is None:
            return _NONE
        return np.asarray(resampler.resample_chunk(_NONE, last=True)).clip(-1, 1)

    def drop_part(self) -> None:
        """Forget the bytes of a sample that has not arrived whole."""
        self._part = b""
