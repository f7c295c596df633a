"""Front ends: a waveform in, a vector of features for every frame out.

Causal and streaming-safe: frame k ends with sample (k + 1) * hop_length and is heard as soon as that sample
has come; what the next frame needs of the samples before it is explicit state.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from models.registry import Registry

FRONT_ENDS: Registry[FrontEnd] = Registry("front end")


class FrontEnd(nn.Module, ABC):
    """Logarithms of short-time power spectra, normalised to mean 0 and variance 1 over a training set.

        P_k[b] = |sum_n window[n] x[(k+1) hop - win + n] e^(-2 pi i b n / n_fft)|^2
        y_k = (scale log(sum_b bands[b] P_k[b] + floor) - mean) / std

    The window is Hann's. Before the first sample there is silence.

    Args:
        sample_rate: of the waveform, Hz.
        win_length: samples that a frame is made from.
        hop_length: samples from a frame to the next.
        n_fft: points of the Fourier transform, at least win_length.
        floor: added to the power, so that silence has a logarithm; waveforms are within [-1, 1].

    Attributes:
        features: numbers a frame.
        basis: [win_length, 2 * bins], the windowed transform's real and then its imaginary parts.
        bands: [bins, features], what of the power spectrum makes a feature; None for all of it as it is.
        scale: see above.
        mean, std: [features].

    Raises:
        ValueError: an argument is out of range.
    """

    basis: Tensor
    bands: Tensor | None
    mean: Tensor
    std: Tensor
    scale: float

    def __init__(self, sample_rate: int, win_length: int, hop_length: int, n_fft: int, floor: float) -> None:
        super().__init__()
        if not 1 <= hop_length <= win_length <= n_fft:
            raise ValueError(
                f"expected 1 <= hop_length <= win_length <= n_fft, got {hop_length}, {win_length} and {n_fft}"
            )
        if sample_rate < 1 or not floor > 0.0:
            raise ValueError(f"sample_rate and floor must be positive, got {sample_rate} and {floor}")
        self.sample_rate = sample_rate
        self.win_length = win_length
        self.hop_length = hop_length
        self.n_fft = n_fft
        self.floor = floor
        time = torch.arange(win_length, dtype=torch.float64)
        bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64)
        angles = 2.0 * math.pi * torch.outer(time, bins) / n_fft
        window = torch.hann_window(win_length, dtype=torch.float64).unsqueeze(1)
        basis = torch.cat([window * angles.cos(), -window * angles.sin()], dim=1)
        bands = self.make_bands(bins * sample_rate / n_fft)
        self.features = len(bins) if bands is None else bands.shape[1]
        dtype = torch.get_default_dtype()
        # they follow from the arguments: no part of a checkpoint
        self.register_buffer("basis", basis.to(dtype), persistent=False)
        self.register_buffer("bands", None if bands is None else bands.to(dtype), persistent=False)
        self.register_buffer("mean", torch.zeros(self.features))
        self.register_buffer("std", torch.ones(self.features))

    @abstractmethod
    def make_bands(self, frequencies: Tensor) -> Tensor | None:
        """`bands` for bins at these frequencies [bins], Hz, float64."""

    def forward(self, waveform: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The features of all frames that end within the waveform.

        Args:
            waveform: [batch, samples], within [-1, 1].
            state: as returned, to go on where the last piece ended; None starts.

        Returns:
            [batch, frames, features], and the state [batch, samples that later frames need].
        """
        overlap = self.win_length - self.hop_length
        if state is None:
            state = waveform.new_zeros(len(waveform), overlap)
        heard = torch.cat([state, waveform], dim=1)
        frames = (heard.shape[1] - overlap) // self.hop_length
        state = heard[:, frames * self.hop_length :]
        if frames == 0:
            return waveform.new_zeros(len(waveform), 0, self.features), state
        real, imaginary = (heard.unfold(1, self.win_length, self.hop_length) @ self.basis).chunk(2, dim=-1)
        power = real.square() + imaginary.square()
        if self.bands is not None:
            power = power @ self.bands
        return (self.scale * (power + self.floor).log() - self.mean) / self.std, state

    @torch.no_grad()
    def normalize_(self, mean: Tensor, std: Tensor) -> None:
        """Set what features are normalised by: the mean and standard deviation [features] over a training set
        of what this front end makes now.
        """
        self.mean.add_(self.std * mean)
        self.std.mul_(std.clamp(min=1e-3))

    def extra_repr(self) -> str:
        return (
            f"sample_rate={self.sample_rate}, win_length={self.win_length}, hop_length={self.hop_length}, "
            f"n_fft={self.n_fft}, features={self.features}"
        )


@FRONT_ENDS.register("log_magnitude_stft")
class LogMagnitudeSTFT(FrontEnd):
    """The magnitude of every bin in decibels, `10 log10(P + floor)`. Defaults: the MomentumRNN authors' for
    TIMIT at 8 kHz, which are those of Wisdom et al. (2016).
    """

    scale = 10.0 / math.log(10.0)

    def __init__(
        self,
        sample_rate: int = 8000,
        win_length: int = 256,
        hop_length: int = 128,
        n_fft: int = 256,
        floor: float = 1e-5,
    ) -> None:
        super().__init__(sample_rate, win_length, hop_length, n_fft, floor)

    def make_bands(self, frequencies: Tensor) -> None:
        """Every bin is a feature."""


@FRONT_ENDS.register("log_mel")
class LogMel(FrontEnd):
    """The logarithm of the power in triangular bands, equally wide on the mel scale
    `m(f) = 2595 log10(1 + f / 700)`, each triangle's peak 1. Defaults: 25 ms windows, 10 ms apart, at 8 kHz.

    Args:
        bands: how many.
        low, high: where the first begins and the last ends, Hz; high None is half the sample rate.

    The other arguments are `FrontEnd`'s.

    Raises:
        ValueError: a band is so narrow that no bin lies in it, or an argument is out of range.

    Source: Davis and Mermelstein (1980); O'Shaughnessy (1987) for the scale.
    """

    scale = 1.0

    def __init__(
        self,
        sample_rate: int = 8000,
        win_length: int = 200,
        hop_length: int = 80,
        n_fft: int = 256,
        bands: int = 40,
        low: float = 20.0,
        high: float | None = None,
        floor: float = 1e-6,
    ) -> None:
        high = sample_rate / 2 if high is None else high
        if bands < 1 or not 0.0 <= low < high <= sample_rate / 2:
            raise ValueError(
                f"expected at least 1 band and 0 <= low < high <= {sample_rate / 2:g} Hz, "
                f"got {bands}, {low} and {high}"
            )
        self._edges = (bands, low, high)
        super().__init__(sample_rate, win_length, hop_length, n_fft, floor)

    def make_bands(self, frequencies: Tensor) -> Tensor:
        """Triangles [bins, bands]."""
        count, low, high = self._edges
        first, last = (2595.0 * math.log10(1.0 + hertz / 700.0) for hertz in (low, high))
        mels = torch.linspace(first, last, count + 2, dtype=torch.float64)
        corners = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
        left, peak, right = corners[:-2], corners[1:-1], corners[2:]
        f = frequencies.unsqueeze(1)
        triangles = torch.minimum((f - left) / (peak - left), (right - f) / (right - peak)).clamp(min=0.0)
        empty = (triangles.sum(dim=0) == 0.0).nonzero()
        if len(empty):
            raise ValueError(
                f"band {int(empty[0])} of {count} holds no bin of a transform of {self.n_fft} points at "
                f"{self.sample_rate} Hz: use fewer bands or a larger n_fft"
            )
        return triangles
