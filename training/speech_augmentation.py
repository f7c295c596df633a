"""Random changes that leave what is said what it is: so that other rooms, microphones and voices look like
training data.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from training.speech import NO_LABEL, SpeechBatch

TONES = 6  # from 0 Hz to half the sample rate


class SpeechAugmentation(nn.Module):
    """Another pause, speed, tone, loudness and noise for each utterance of a batch, and utterances one after
    the other.

    Args:
        pause: longest silence put before and after, seconds.
        speed: largest relative change of speed, and of pitch with it.
        gain: loudness is multiplied by between -gain and +gain decibels.
        equalizer: each of `TONES` frequencies is made louder or softer by up to so many decibels, those
            between by what lies between: a tilt, another microphone, another room.
        noise: level of white noise, drawn between these decibels relative to the utterance.
        chained: probability that a batch's utterances are each followed by another one.

    Raises:
        ValueError: a number that can't be.
    """

    def __init__(
        self,
        pause: float = 0.3,
        speed: float = 0.1,
        gain: float = 10.0,
        equalizer: float = 6.0,
        noise: tuple[float, float] = (-60.0, -20.0),
        chained: float = 0.3,
    ) -> None:
        super().__init__()
        least = all(number >= 0.0 for number in (pause, speed, gain, equalizer, chained))  # NaN is not
        if not (least and speed <= 0.5 and chained <= 1.0):
            raise ValueError(
                f"pause {pause}, speed {speed}, gain {gain}, equalizer {equalizer}, chained {chained}: "
                "expected numbers of at least 0, speed at most 0.5, chained at most 1"
            )
        self.pause, self.speed, self.gain, self.equalizer = pause, speed, gain, equalizer
        self.noise, self.chained = noise, chained

    def forward(self, batch: SpeechBatch, sample_rate: int, silence: int | None) -> SpeechBatch:
        """Change every utterance.

        Args:
            batch: the utterances.
            sample_rate: theirs, Hz.
            silence: the class of the pauses; None for no pauses, as they would have no label.

        Returns:
            The changed ones, longer or shorter, their labels moved along.
        """
        batch = self._warp(batch, 0 if silence is None else round(self.pause * sample_rate), silence or 0)
        waveform = batch.waveform * 10.0 ** (self._draw(batch, -self.gain, self.gain) / 20.0)
        waveform = self._equalize(batch, waveform)
        labels, lengths = batch.labels, batch.lengths
        energy = waveform.square().sum(dim=1, keepdim=True) / lengths.unsqueeze(1)
        if torch.rand(()) < self.chained:
            order = torch.randperm(len(waveform), device=waveform.device)
            lengths = labels.shape[1] + lengths[order]
            waveform = torch.cat([waveform, waveform[order]], dim=1)
            labels = torch.cat([labels, labels[order]], dim=1)
        level = energy.sqrt() * 10.0 ** (self._draw(batch, *self.noise) / 20.0)
        waveform = (waveform + level * torch.randn_like(waveform)).clamp(-1.0, 1.0)
        return SpeechBatch(waveform, lengths, labels, batch.utterance)

    def _warp(self, batch: SpeechBatch, pause: int, silence: int) -> SpeechBatch:
        """Change speeds by linear interpolation, and put silence around."""
        rate = 1.0 + self._draw(batch, -self.speed, self.speed)
        lead = self._draw(batch, 0.0, pause).round()
        trail = self._draw(batch, 0.0, pause).round()
        length = (batch.lengths.unsqueeze(1) / rate).floor()
        total = (lead + length + trail).long()
        time = torch.arange(int(total.max()), device=batch.waveform.device)
        source = (time - lead) * rate
        inside = (time >= lead) & (time < lead + length)
        index = source.floor().long().clamp(0, batch.waveform.shape[1] - 1)
        after = (index + 1).clamp(max=batch.waveform.shape[1] - 1)
        waveform = torch.lerp(
            batch.waveform.gather(1, index), batch.waveform.gather(1, after), (source - index).clamp(0.0, 1.0)
        )
        labels = torch.where(inside, batch.labels.gather(1, index), silence)
        labels = torch.where(time < total, labels, NO_LABEL)
        return SpeechBatch(torch.where(inside, waveform, 0.0), total.squeeze(1), labels, batch.utterance)

    def _equalize(self, batch: SpeechBatch, waveform: Tensor) -> Tensor:
        """Filter by a gain over frequency that is linear in decibels between the tones."""
        decibels = torch.cat(
            [self._draw(batch, -self.equalizer, self.equalizer) for _ in range(TONES)], dim=1
        )
        spectrum = torch.fft.rfft(waveform)
        curve = interpolate(decibels.unsqueeze(1), spectrum.shape[1], mode="linear", align_corners=True)
        filtered: Tensor = torch.fft.irfft(spectrum * 10.0 ** (curve.squeeze(1) / 20.0), n=waveform.shape[1])
        return filtered

    @staticmethod
    def _draw(batch: SpeechBatch, low: float, high: float) -> Tensor:
        """[batch, 1], uniform."""
        return low + (high - low) * torch.rand(len(batch.waveform), 1, device=batch.waveform.device)


class Masking(nn.Module):
    """Hide bands of features and stretches of frames, another for each utterance.

    Args:
        bands: most features that are hidden, next to each other.
        frames: most frames that are hidden, one after the other.

    Source: Park et al., "SpecAugment" (Interspeech 2019), without the warping of time.
    """

    def __init__(self, bands: int = 8, frames: int = 8) -> None:
        super().__init__()
        self.bands, self.frames = bands, frames

    def forward(self, features: Tensor) -> Tensor:
        """Features [batch, frames, features], normalised: 0 is their mean, and hides them."""
        _, frames, bands = features.shape
        hidden = self._stretch(features, frames, self.frames).unsqueeze(2)
        hidden = hidden | self._stretch(features, bands, self.bands).unsqueeze(1)
        return features.masked_fill(hidden, 0.0)

    @staticmethod
    def _stretch(features: Tensor, count: int, longest: int) -> Tensor:
        """[batch, count], True on a stretch of up to `longest`."""
        draw = torch.rand(2, len(features), 1, device=features.device)
        width = (draw[0] * (longest + 1)).floor()
        start = (draw[1] * (count - width + 1.0).clamp(min=0.0)).floor()
        place = torch.arange(count, device=features.device)
        return (place >= start) & (place < start + width)
