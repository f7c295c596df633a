"""A synthetic stand-in for TIMIT: English sentences spoken by eSpeak NG, in TIMIT's layout and formats.

It is there so that everything that reads TIMIT can be run, tested and tried out without the licensed
corpus. The speakers are settings of a synthesiser: a figure measured on it says nothing about human speech,
and is not comparable with one measured on TIMIT. It has TIMIT's 50 development and 24 core test speakers by
name, so that the same code selects them, and fewer training speakers, whose names TIMIT does not have.
"""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.data.corpus import Corpus
from training.data.draws import Draws
from training.data.errors import DataError
from training.data.espeak import Espeak, open_espeak
from training.data.lock import locked
from training.data.phn import SAMPLE_RATE
from training.data.speech import Speech, refuse_unknown
from training.data.sphere import encode_sphere
from training.data.splits import Split
from training.data.synthetic_speakers import Speaker, make_speaker, read_aloud, texts
from training.data.timit import CORE_TEST, DEVELOPMENT, SYNTHETIC_MARKER, read_corpus

NAME = "synthetic-timit"
VERSION = 1  # of what this program makes; one that is older is made anew
README = """\
This is not TIMIT. It is a synthetic corpus in TIMIT's layout, made by the program Momentum Serve with the
speech synthesiser {synthesiser}: the recordings, the transcriptions and the sentences are all artificial, and
no part of TIMIT is in them. The names of the speakers in TEST are those of TIMIT's development and core test
sets, so that the same program reads both; they are no people's voices here.

A result measured on it says nothing about human speech. It can be deleted, and is made again when needed.
"""


@dataclass(frozen=True)
class Size:
    """How many speakers a synthetic corpus has to train on, to validate on (at most 50), to test on (24)."""

    train: int = 48
    validation: int = len(DEVELOPMENT)
    test: int = len(CORE_TEST)

    def __post_init__(self) -> None:
        limits = {"train": 26**2, "validation": len(DEVELOPMENT), "test": len(CORE_TEST)}
        for part, limit in limits.items():
            if not 1 <= getattr(self, part) <= limit:
                raise ValueError(f"{part}: found {getattr(self, part)} speakers, expected 1 to {limit}")


def load_synthetic_timit(split: Split, root: Path, options: Mapping[str, Any]) -> Speech:
    """Load a split of the synthetic corpus in ``root/synthetic-timit``, which is made if it is not there.

    It then has 48 speakers to train on (384 sentences besides SA), 50 to validate on and 24 to test on (8
    sentences each). One of another size that ``make_synthetic_timit`` made is loaded as it is.

    Args:
        split: which part.
        root: the data directory.
        options: none.

    Returns:
        As ``load_timit``.

    Raises:
        DataError: it cannot be made, or is damaged.
        OSError: a file that is there cannot be read.
    """
    refuse_unknown(options, (), NAME)
    folder = root / NAME
    if _size(folder) is None:
        make_synthetic_timit(root)
    return read_corpus(_expected(_size(folder) or Size(), folder), split, folder)


def make_synthetic_timit(root: Path, size: Size = Size(), *, seed: int = 0) -> Path:
    """Make the corpus in ``root/synthetic-timit``; it appears there whole or not at all.

    Nothing is done if one of this version is there; one of another version is replaced. A process that wants
    to make it while another does waits for that one.

    Args:
        root: the data directory.
        size: how large.
        seed: of all that is random in it.

    Returns:
        The folder that holds TRAIN and TEST.

    Raises:
        DataError: espeakng-loader is not installed or fails, the corpus cannot be written, or there is
            a folder of that name with something else in it.
    """
    folder = root / NAME
    try:
        with locked(root / f".{NAME}.lock"):
            for abandoned in root.glob(f".{NAME}-*"):
                shutil.rmtree(abandoned)
            if _size(folder) is None:
                _make(folder, size, seed)
    except OSError as error:
        raise DataError(
            f"{folder}: the synthetic corpus could not be made: {error}. "
            "Set --data or MOMENTUM_DATA to a directory that can be written."
        ) from error
    return folder


def _size(folder: Path) -> Size | None:
    """Of the corpus in a folder; None if there is none, or one of another version.

    Raises:
        DataError: there is something else.
    """
    if not folder.exists():
        return None
    try:
        marker = json.loads((folder / SYNTHETIC_MARKER).read_bytes())
        return Size(**marker["size"]) if marker["version"] == VERSION else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder}: found something without a valid {SYNTHETIC_MARKER}, expected a corpus made by this "
            "program. Move it away."
        ) from error


def _make(folder: Path, size: Size, seed: int) -> None:
    """Make the corpus next to its place, and exchange it for what is there."""
    with tempfile.TemporaryDirectory(prefix=f".{NAME}-", dir=folder.parent) as workplace:
        new, old = Path(workplace) / "new", Path(workplace) / "old"
        with open_espeak(seed) as espeak:
            for speaker in _progress(_speakers(size, seed)):
                _record(speaker, espeak, new, seed)
            synthesiser = f"eSpeak NG {espeak.version}"
        (new / "README.txt").write_text(README.format(synthesiser=synthesiser))
        marker = {"version": VERSION, "size": asdict(size), "seed": seed, "synthesiser": synthesiser}
        (new / SYNTHETIC_MARKER).write_text(json.dumps(marker, indent=2))
        if folder.exists():
            folder.rename(old)
        new.rename(folder)


def _speakers(size: Size, seed: int) -> list[Speaker]:
    names = {
        "TRAIN": [
            f"{'MMF'[index % 3]}Q{chr(65 + index // 26)}{chr(65 + index % 26)}0"
            for index in range(size.train)
        ],
        "TEST": [*DEVELOPMENT[: size.validation], *CORE_TEST[: size.test]],
    }
    return [
        make_speaker(name, part, number, seed)
        for part, members in names.items()
        for number, name in enumerate(members)
    ]


def _record(speaker: Speaker, espeak: Espeak, folder: Path, seed: int) -> None:
    """Write what a speaker reads, in three files for each sentence."""
    place = folder / speaker.folder
    place.mkdir(parents=True)
    for name, text in texts(speaker, seed).items():
        samples, phones = read_aloud(speaker, text, espeak, Draws(seed, speaker.name, name))
        fields = {"database_id": NAME, "utterance_id": f"{speaker.name}_{name}".lower()}
        lines = "".join(f"{phone.start} {phone.end} {phone.label}\n" for phone in phones)
        (place / f"{name}.WAV").write_bytes(encode_sphere(samples, SAMPLE_RATE, fields))
        (place / f"{name}.PHN").write_text(lines)
        (place / f"{name}.TXT").write_text(f"0 {len(samples)} {text}\n")


def _progress(speakers: Sequence[Speaker]) -> Iterable[Speaker]:
    # Imported here so that a corpus that is already on disk can be read without rich.
    from rich.console import Console
    from rich.progress import track

    return track(speakers, f"making {NAME}", console=Console(stderr=True))


def _expected(size: Size, folder: Path) -> Corpus:
    train = [speaker for speaker in _speakers(size, seed=0) if speaker.folder.startswith("TRAIN")]
    return Corpus(
        dataset=NAME,
        train=Counter(speaker.folder.split("/")[1] for speaker in train),
        validation=DEVELOPMENT[: size.validation],
        test=CORE_TEST[: size.test],
        remedy=f"Remove {folder} to have it made again.",
    )
