"""The Free Spoken Digit Dataset: 3,000 spoken digits of six speakers at 8 kHz (Jackson et al., CC BY-SA 4.0).

Version 1.0.10: 50 recordings of each digit by each speaker, numbered from 0. The published test split is the
numbers 0 to 4; of the others, 5 to 9 are held out here for validation. To measure on a speaker who was never
heard, the option ``leave_out`` makes all of his recordings the test split.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from training.data.audio import decode
from training.data.endpoints import speech_span
from training.data.errors import DataError
from training.data.fsdd_archive import MAX_BYTES, provide_recordings
from training.data.speech import Segment, Speech, Utterance, refuse_unknown
from training.data.splits import Split

NAME = "fsdd"
SAMPLE_RATE = 8_000
DIGITS = tuple("0123456789")
SILENCE = "silence"
COUNT = 50  # recordings of each digit by each speaker
PAUSE = 2_000  # samples of silence, a quarter of a second
TEST = range(5)
VALIDATION = range(5, 10)

# SHA-256 of the recordings by speaker, see ``_digest``.
SPEAKERS = {
    "george": "61bbbd080fc59d22d1963462b547c526b960ae9274a83dca70da943c672428d5",
    "jackson": "8ec0c8660431508057ae04f7be0387e8f462583d14d363f2ee8695696e51cf99",
    "lucas": "5e15b2169170e15d183c81b78ea432e272b5bb3528cf50a2801c34c50a13af85",
    "nicolas": "cdeec6661da98415e1971bbcd8738ee2c6705f16e741205da7ab3bb2f335072a",
    "theo": "c328b62c7c064bec0bb6f328d452c977037e9dd7651994f04bf1df523233144a",
    "yweweler": "80e2ca9c6daf80bb6335ab3237c6e444587ebdc2d3f5d9a95d177e84949a2649",
}


def load_fsdd(split: Split, root: Path, options: Mapping[str, Any]) -> Speech:
    """Load a split: the numbers 10 to 49 to train on, 5 to 9 to validate on, 0 to 4 to test on.

    Recordings are looked for in ``root/fsdd/recordings``, ``root/fsdd``, ``root/recordings`` and ``root``;
    if some that the split needs are in none of them, the data set is downloaded to the first.

    The recordings are cut close to the word, so a quarter of a second of silence is put before and after
    each; a model of them would never learn what silence is. Every one is then labelled silence, digit,
    silence by ``speech_span``.

    Args:
        split: which part.
        root: the data directory.
        options: ``speakers``, a list of the speakers to take, by default all six; ``leave_out``, one of
            them: then all of his recordings are the test split, and the others' numbers 0 to 4 are trained
            on.

    Returns:
        Utterances at 8 kHz, ordered by speaker, digit and number, whose label is the digit. A checksum for
        each speaker.

    Raises:
        DataError: an option is wrong, a recording is not the published one, or is absent and cannot be
            downloaded.
        OSError: a file that is there cannot be read.
    """
    speakers, leave_out = _parse(options)
    if leave_out is not None:
        speakers = [leave_out] if split == "test" else [name for name in speakers if name != leave_out]
    names = {speaker: _names(speaker) for speaker in speakers}
    paths = provide_recordings([name for each in names.values() for name in each], root)
    checksums = {}
    utterances = []
    for speaker, members in names.items():
        contents = {name: _read(paths[name]) for name in members}
        checksums[speaker] = _check(speaker, contents, paths)
        utterances += [
            _decode(name, speaker, contents[name], paths[name])
            for name in members
            if _belongs(name, split, leave_out)
        ]
    return Speech(
        dataset=NAME,
        split=split,
        sample_rate=SAMPLE_RATE,
        labels=(*DIGITS, SILENCE),
        silence=SILENCE,
        scored_as={label: label for label in (*DIGITS, SILENCE)},
        utterances=tuple(utterances),
        checksums=checksums,
    )


def _parse(options: Mapping[str, Any]) -> tuple[list[str], str | None]:
    refuse_unknown(options, ("speakers", "leave_out"), NAME)
    known = list(SPEAKERS)
    speakers = options.get("speakers")
    if speakers is None:
        speakers = known
    if not isinstance(speakers, list | tuple) or not speakers or any(name not in known for name in speakers):
        raise DataError(
            f"{NAME}: found speakers {speakers!r}, expected a list of names; known: {', '.join(known)}"
        )
    if len(set(speakers)) != len(speakers):
        raise DataError(f"{NAME}: found speakers {speakers!r}, expected each of them once")
    leave_out = options.get("leave_out")
    if leave_out is not None and (leave_out not in speakers or len(speakers) == 1):
        others = ", ".join(speakers)
        raise DataError(f"{NAME}: found leave_out {leave_out!r}, expected one of several speakers: {others}")
    return list(speakers), leave_out


def _names(speaker: str) -> list[str]:
    return [f"{digit}_{speaker}_{number}.wav" for digit in DIGITS for number in range(COUNT)]


def _belongs(name: str, split: Split, leave_out: str | None) -> bool:
    """Whether a recording of a speaker whom the split has is in the split."""
    number = int(name.removesuffix(".wav").split("_")[2])
    if split == "validation":
        return number in VALIDATION
    if leave_out is not None:
        return split == "test" or number not in VALIDATION
    return (number in TEST) if split == "test" else (number not in TEST and number not in VALIDATION)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)  # a longer file does not have the checksum


def _check(speaker: str, contents: Mapping[str, bytes], paths: Mapping[str, Path]) -> str:
    """The SHA-256 of a speaker's recordings: names, lengths and contents in order of digit and number."""
    digest = hashlib.sha256()
    for name, content in contents.items():
        digest.update(f"{name} {len(content)}\n".encode() + content)
    found = digest.hexdigest()
    if found != SPEAKERS[speaker]:
        folders = ", ".join(sorted({str(paths[name].parent) for name in contents}))
        raise DataError(
            f"{folders}: found recordings of {speaker} with SHA-256 {found}, expected {SPEAKERS[speaker]} "
            f"(the {len(contents)} of version 1.0.10). Replace {speaker}'s files, or remove them to have "
            "them downloaded."
        )
    return found


def _decode(name: str, speaker: str, content: bytes, source: Path) -> Utterance:
    samples = decode(content, source, sample_rate=SAMPLE_RATE)
    digit = name[0]
    start, end = (PAUSE + sample for sample in speech_span(samples, SAMPLE_RATE))
    samples = np.pad(samples, PAUSE)
    parts = ((0, start, SILENCE), (start, end, digit), (end, len(samples), SILENCE))
    segments = tuple(Segment(*part) for part in parts)
    return Utterance(name.removesuffix(".wav"), speaker, samples, segments, label=digit)
