"""Where in a recording of one word the word is (after Rabiner and Sambur, 1975, without zero crossings)."""

import numpy as np
import numpy.typing as npt

WINDOW_SECONDS = 0.025
STEP_SECONDS = 0.005
RANGE_DB = 35.0  # below the loudest window
FLOOR_DB = -80.0  # re full scale: three steps of 16-bit audio
MAX_CLOSURE_BEFORE_SECONDS = 0.05
MAX_CLOSURE_AFTER_SECONDS = 0.125


def speech_span(samples: npt.NDArray[np.float32], sample_rate: int) -> tuple[int, int]:
    """Find the first and last moment of the word that is said.

    The energy is taken in windows of 25 ms, one centred on every multiple of 5 ms, silence being assumed
    before and after the recording. A window is active that is at most 35 dB weaker than the loudest one and
    not below -80 dB re full scale. The word is the run of active windows around the loudest one, and those
    runs beyond it that a short pause separates: at most 50 ms before it and 125 ms after it. The closure of
    a final stop (the t of "eight") is that long, while no word begins with a sound and then a pause; so
    pauses inside the word belong to it, and clicks and breaths apart from it do not.

    35 dB were chosen by looking at the Free Spoken Digit Dataset: 30 dB lose many an initial f ("four") and
    final s ("six"), 40 dB reach the noise of most microphones in it. A sudden onset is found up to half a
    window early.

    Args:
        samples: [n] in [-1, 1].
        sample_rate: per second.

    Returns:
        The first sample and the one after the last: multiples of the step, the latter at most n. (0, 0) if
        there is nothing above the floor.
    """
    window, step = round(WINDOW_SECONDS * sample_rate), round(STEP_SECONDS * sample_rate)
    padded = np.pad(samples.astype(np.float64), (window // 2, window))
    energies = np.concatenate([[0.0], np.cumsum(padded**2)])
    starts = np.arange(0, len(samples), step)
    power = (energies[starts + window] - energies[starts]) / window
    loudest = int(np.argmax(power)) if len(power) else 0
    floor = 10 ** (FLOOR_DB / 10)
    if not len(power) or power[loudest] < floor:
        return 0, 0
    active = np.flatnonzero(power >= max(power[loudest] * 10 ** (-RANGE_DB / 10), floor))
    pauses = (np.diff(active) - 1) * step / sample_rate
    here = int(np.searchsorted(active, loudest))
    before = np.flatnonzero(pauses[:here] > MAX_CLOSURE_BEFORE_SECONDS)
    after = np.flatnonzero(pauses[here:] > MAX_CLOSURE_AFTER_SECONDS)
    first = active[before[-1] + 1 if len(before) else 0]
    last = active[here + after[0] if len(after) else -1]
    return int(first) * step, min(len(samples), int(last + 1) * step)
