"""espeak's phonemes of American English as TIMIT's phones.

TIMIT transcribes more than a synthesiser plans: the closure of a stop apart from its release, and variants of
a sound that its neighbours cause. Closures are in the waveform, where espeak leaves the samples before a
release at zero; the variants are inferred from the neighbours. ``em``, ``eng`` and ``nx`` never come about.
"""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from training.data.errors import DataError
from training.data.espeak import Spoken
from training.data.speech import Segment

STRESS = "'\",%=|"  # marks in front of a mnemonic

# Mnemonics of espeak's voices en-us and en-us-nyc, each with TIMIT's phones in order.
PHONES = {
    # vowels
    "i": ("iy",),
    "i:": ("iy",),
    "I": ("ih",),
    "I2": ("ix",),
    "I#": ("ix",),
    "E": ("eh",),
    "eI": ("ey",),
    "a": ("ae",),
    "aa": ("ae",),
    "A:": ("aa",),
    "0": ("aa",),
    "aU": ("aw",),
    "aI": ("ay",),
    "V": ("ah",),
    "O:": ("ao",),
    "O2": ("ao",),
    "OI": ("oy",),
    "oU": ("ow",),
    "U": ("uh",),
    "u:": ("uw",),
    "3:": ("er",),
    "3": ("axr",),
    "@": ("ax",),
    "@2": ("ax",),
    "@5": ("ax",),
    "@-": ("ax",),
    "a#": ("ax",),
    # vowels and what follows them
    "A@": ("aa", "r"),
    "O@": ("ao", "r"),
    "o@": ("ao", "r"),
    "e@": ("eh", "r"),
    "U@": ("uh", "r"),
    "i@": ("iy", "ax"),
    "i@3": ("ih", "r"),
    "aI@": ("ay", "ax"),
    "aI3": ("ay", "axr"),
    # consonants
    "p": ("p",),
    "t": ("t",),
    "t2": ("t",),
    "k": ("k",),
    "b": ("b",),
    "d": ("d",),
    "g": ("g",),
    "t#": ("dx",),
    "?": ("q",),
    "tS": ("ch",),
    "dZ": ("jh",),
    "f": ("f",),
    "v": ("v",),
    "T": ("th",),
    "D": ("dh",),
    "s": ("s",),
    "z": ("z",),
    "S": ("sh",),
    "Z": ("zh",),
    "h": ("hh",),
    "m": ("m",),
    "n": ("n",),
    "N": ("ng",),
    "n-": ("en",),
    "l": ("l",),
    "@L": ("el",),
    "r": ("r",),
    "r-": ("r",),
    "w": ("w",),
    "j": ("y",),
    ";": ("y",),
}
# What precedes the release of a stop; a glottal stop has none.
CLOSURES = {
    "p": "pcl",
    "t": "tcl",
    "k": "kcl",
    "b": "bcl",
    "d": "dcl",
    "g": "gcl",
    "ch": "tcl",
    "jh": "dcl",
    "q": "q",
}
BOUNDARY, PAUSE, SILENT_GAP = "h#", "pau", "epi"

MIN_CLOSURE_SECONDS = 0.005
VOICED_CLOSURE_SHARE = 0.6  # of the sound of a stop whose closure is voiced, so that no silence shows it
MIN_GAP_SECONDS = 0.02  # between sounds where no stop is
MIN_L_SECONDS = 0.015

FRONTING = {"t", "d", "s", "z", "n", "l", "y", "ch", "jh", "sh", "dx"}
VOICELESS = {"p", "t", "k", "ch", "f", "th", "s", "sh", "hh"}
SILENCES = {BOUNDARY, PAUSE}


def transcribe(spoken: Spoken, sample_rate: int) -> list[Segment]:
    """TIMIT's transcription of what espeak spoke.

    Args:
        spoken: samples [n] and phonemes; it begins and ends with silence, the latter a pause of espeak's.
        sample_rate: of the samples.

    Returns:
        Phones from sample 0 to n without gaps, the first and the last of them h#.

    Raises:
        DataError: espeak uses a phoneme that is not in ``PHONES``.
    """
    starts = [start for start, _ in spoken.phonemes]
    ends = [*starts[1:], len(spoken.samples)]
    phones = [Segment(0, starts[0], BOUNDARY)]
    for (start, mnemonic), end in zip(spoken.phonemes, ends, strict=True):
        if start < end:
            _append(phones, Segment(start, end, mnemonic.lstrip(STRESS)), spoken.samples, sample_rate)
    phones[-1] = Segment(phones[-1].start, phones[-1].end, BOUNDARY)
    return _with_variants(_with_final_l(phones, sample_rate))


def _append(
    phones: list[Segment], phoneme: Segment, samples: npt.NDArray[np.int16], sample_rate: int
) -> None:
    """Append what a phoneme consists of; the silence before it is taken from the phone before."""
    if phoneme.label.startswith("_"):
        names: tuple[str, ...] = (PAUSE,)
    elif phoneme.label in PHONES:
        names = PHONES[phoneme.label]
    else:
        raise DataError(f"found espeak-ng's phoneme {phoneme.label!r}, expected one of {' '.join(PHONES)}")
    start = phoneme.start
    if phones[-1].label in SILENCES:
        if names == (PAUSE,):
            _end_last(phones, phoneme.end)
            return
    else:
        start = _append_silence(phones, names[0], phoneme, samples, sample_rate)
    for index, name in enumerate(names):
        end = start + (phoneme.end - start) // (len(names) - index)
        if end > start:
            phones.append(Segment(start, end, name))
        start = end


def _append_silence(
    phones: list[Segment],
    following: str,
    phoneme: Segment,
    samples: npt.NDArray[np.int16],
    sample_rate: int,
) -> int:
    """Append the closure or gap before a phone. Returns where the phone itself starts."""
    last = phones[-1]
    quiet = _end_of_sound(samples, last.start, phoneme.start)
    closure = CLOSURES.get(following)
    unreleased = last.label in CLOSURES and quiet - last.start < MIN_CLOSURE_SECONDS * sample_rate
    if unreleased:
        phones.pop()
    quiet = max(quiet, phones[-1].start + 1)
    if following == PAUSE:
        _end_last(phones, quiet)
        return quiet
    enough = (MIN_CLOSURE_SECONDS if closure else MIN_GAP_SECONDS) * sample_rate
    if phoneme.start - quiet >= enough and (closure or not unreleased):
        _end_last(phones, quiet)
        phones.append(Segment(quiet, phoneme.start, closure or SILENT_GAP))
        return phoneme.start
    _end_last(phones, phoneme.start)
    if closure is None:
        return phoneme.start
    sound = _end_of_sound(samples, phoneme.start, phoneme.end) - phoneme.start
    release = phoneme.start + int(VOICED_CLOSURE_SHARE * sound)
    if release > phoneme.start:
        phones.append(Segment(phoneme.start, release, closure))
    return release


def _end_of_sound(samples: npt.NDArray[np.int16], start: int, end: int) -> int:
    """The position between ``start`` and ``end`` from which on all samples are zero."""
    loud = np.flatnonzero(samples[start:end])
    return start + (int(loud[-1]) + 1 if len(loud) else 0)


def _end_last(phones: list[Segment], end: int) -> None:
    phones[-1] = Segment(phones[-1].start, end, phones[-1].label)


def _with_final_l(phones: list[Segment], sample_rate: int) -> list[Segment]:
    """Give an l of no length the end of the vowel before it, which is where espeak speaks it."""
    moved = list(phones)
    for index, (vowel, phone) in enumerate(pairwise(phones)):
        if phone.label == "l" and phone.end - phone.start < MIN_L_SECONDS * sample_rate:
            start = vowel.end - (vowel.end - vowel.start) // 3
            moved[index : index + 2] = [
                Segment(vowel.start, start, vowel.label),
                Segment(start, phone.end, phone.label),
            ]
    return moved


def _with_variants(phones: list[Segment]) -> list[Segment]:
    """Replace phones by the variants that their neighbours cause."""
    labels = [phone.label for phone in phones]
    variants = []
    for index, phone in enumerate(phones):
        before, after = labels[max(0, index - 1)], labels[min(index + 1, len(labels) - 1)]
        label = phone.label
        if label == "uw" and before in FRONTING:
            label = "ux"
        elif label == "hh" and before not in VOICELESS | SILENCES | {SILENT_GAP}:
            label = "hv"
        elif label == "ax" and before in VOICELESS and after in {"pcl", "tcl", "kcl", *VOICELESS}:
            label = "ax-h"
        variants.append(Segment(phone.start, phone.end, label))
    return variants
