"""A corpus that is laid out as TIMIT is shipped: ``TRAIN/DR1/FCJF0/SX37.WAV`` and ``.PHN`` beside it."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.data.errors import DataError
from training.data.splits import Split

SENTENCES = 8  # of a speaker, without the two SA sentences
MAX_EXAMPLES = 5
MAX_DEPTH = 3  # of folders around TRAIN and TEST

REGION = re.compile(r"DR[1-8]")
SPEAKER = re.compile(r"[FM][A-Z]{3}\d")
FILE = re.compile(r"((?:SI|SX)\d{1,4})\.(WAV|PHN)")


@dataclass(frozen=True)
class Corpus:
    """What is there when a corpus is complete.

    Attributes:
        dataset: its name, as given to ``load_speech``.
        train: how many speakers each dialect region has in TRAIN, all of whom are trained on.
        validation: the speakers in TEST to validate on.
        test: the speakers in TEST to test on.
        remedy: what to do when something is missing, a sentence.
    """

    dataset: str
    train: Mapping[str, int]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    remedy: str


@dataclass(frozen=True)
class Sentence:
    """The files of one sentence.

    Attributes:
        name: such as ``TRAIN/DR1/FCJF0/SX37``, in upper case whatever the files' names are.
        speaker: such as ``FCJF0``.
        recording: the .WAV file.
        transcription: the .PHN file.
    """

    name: str
    speaker: str
    recording: Path
    transcription: Path


def find_corpus(root: Path, folders: Sequence[str]) -> Path | None:
    """The folder that holds TRAIN or TEST: ``root``, or one below it; with dialect regions in these, if any.

    Args:
        root: where to look.
        folders: names, in lower case, of the folders in it to look into, and in those.
    """
    candidates = list(_candidates(root, folders, MAX_DEPTH))
    return next(filter(_has_regions, candidates), next(iter(candidates), None))


def _candidates(folder: Path, names: Sequence[str], depth: int) -> Iterator[Path]:
    children = _children(folder)
    if any(child.name.upper() in {"TRAIN", "TEST"} for child in children):
        yield folder
    if depth:
        for child in children:
            if child.name.lower() in names:
                yield from _candidates(child, names, depth - 1)


def _has_regions(folder: Path) -> bool:
    parts = [child for child in _children(folder) if child.name.upper() in {"TRAIN", "TEST"}]
    return any(REGION.fullmatch(region.name.upper()) for part in parts for region in _children(part))


def _children(folder: Path) -> list[Path]:
    """The folders in a folder that may not exist."""
    return sorted(child for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else []


def find_sentences(corpus: Corpus, split: Split, folder: Path) -> list[Sentence]:
    """The sentences of a split, ordered by name, without the SA sentences.

    Args:
        corpus: what is expected.
        split: which part.
        folder: the folder that holds TRAIN and TEST.

    Raises:
        DataError: something is missing or superfluous; the message says how much, and gives examples.
    """
    part = "TRAIN" if split == "train" else "TEST"
    speakers = _find_speakers(folder, part)
    if split == "train":
        complaints = _wrong_regions(speakers, corpus.train)
    else:
        wanted = corpus.validation if split == "validation" else corpus.test
        complaints = _missing_speakers({name.split("/")[-1] for name in speakers}, wanted)
        speakers = {name: path for name, path in speakers.items() if name.split("/")[-1] in wanted}
    sentences = []
    faults = []
    for name, path in speakers.items():
        found, problems = _find_sentences_of(name, path)
        sentences += found
        faults += problems
    complaints += _abridged("faults in speakers' folders", faults)
    if complaints:
        listing = "\n".join(f"  {complaint}" for complaint in complaints)
        raise DataError(
            f"{folder}: the {split} split of {corpus.dataset} is not complete:\n{listing}\n{corpus.remedy}"
        )
    return sorted(sentences, key=lambda sentence: sentence.name)


def _find_speakers(folder: Path, part: str) -> dict[str, Path]:
    """The speakers' folders by names like TRAIN/DR1/FCJF0."""
    return {
        f"{part}/{region.name.upper()}/{speaker.name.upper()}": speaker
        for below in _children(folder)
        if below.name.upper() == part
        for region in _children(below)
        if REGION.fullmatch(region.name.upper())
        for speaker in _children(region)
        if SPEAKER.fullmatch(speaker.name.upper())
    }


def _wrong_regions(speakers: Iterable[str], expected: Mapping[str, int]) -> list[str]:
    regions = [name.split("/")[1] for name in speakers]
    return [
        f"TRAIN/{region}: found {regions.count(region)} speakers, expected {count}"
        for region, count in expected.items()
        if regions.count(region) != count
    ]


def _missing_speakers(found: set[str], wanted: Sequence[str]) -> list[str]:
    missing = [speaker for speaker in wanted if speaker not in found]
    return _abridged(f"missing in TEST, of {len(wanted)} speakers", missing)


def _find_sentences_of(speaker: str, folder: Path) -> tuple[list[Sentence], list[str]]:
    """A speaker's sentences, and what is wrong with them."""
    files: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        if name := FILE.fullmatch(path.name.upper()):
            files.setdefault(name[1], {})[name[2]] = path
    whole = {sentence: pair for sentence, pair in files.items() if len(pair) == 2}
    problems = [
        f"{speaker}/{sentence} has only its .{next(iter(pair))}"
        for sentence, pair in files.items()
        if len(pair) == 1
    ]
    if len(files) != SENTENCES:
        problems.append(f"{speaker} has {len(files)} sentences besides SA, expected {SENTENCES}")
    sentences = [
        Sentence(f"{speaker}/{sentence}", speaker.split("/")[-1], pair["WAV"], pair["PHN"])
        for sentence, pair in whole.items()
    ]
    return sentences, problems


def _abridged(what: str, items: Sequence[str]) -> list[str]:
    """A line that counts the items and shows the first few."""
    if not items:
        return []
    more = f", and {len(items) - MAX_EXAMPLES} more" if len(items) > MAX_EXAMPLES else ""
    return [f"{len(items)} {what}: {', '.join(items[:MAX_EXAMPLES])}{more}"]
