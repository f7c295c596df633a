"""TIMIT's .PHN files: one line ``start end phone`` for each phone, in samples."""

import re
from itertools import pairwise
from pathlib import Path

from training.data.errors import DataError
from training.data.phones import SYMBOLS, TRAINED_AS
from training.data.speech import Segment

BOUNDARY = "h#"  # opens and closes every transcription
SAMPLE_RATE = 16_000
MAX_MISMATCH = SAMPLE_RATE // 10  # 100 ms: between the end of a phone and the start of the next
MAX_MISMATCH_AT_END = SAMPLE_RATE // 2  # 500 ms: between the end of the last phone and of the recording
LINE = re.compile(r"(\d{1,9})[ \t]+(\d{1,9})[ \t]+(\S+)")


def parse_phn(content: bytes, length: int, source: Path) -> tuple[Segment, ...]:
    """Decode a transcription.

    The starts are what counts: every phone lasts until the next one starts, and the last until the recording
    ends. So the segments cover the recording where the file has small gaps or overlaps, which TIMIT has,
    mostly at the end.

    Args:
        content: of the file.
        length: of the recording, samples.
        source: where the content came from, for messages.

    Returns:
        The phones in TIMIT's 61 symbols, covering sample 0 to ``length``.

    Raises:
        DataError: a line is malformed, a phone is unknown, empty, or out of order, gaps or overlaps are
            larger than ``MAX_MISMATCH`` and ``MAX_MISMATCH_AT_END``, or the file does not begin and end
            with h#, as one that was cut short does not.
    """
    lines = content.decode("latin-1").splitlines()
    phones = [_parse_line(line, number, source) for number, line in enumerate(lines, 1) if line.strip()]
    if len(phones) < 2 or phones[0].label != BOUNDARY or phones[-1].label != BOUNDARY:
        found = f"{len(phones)} phones: {_ends([phone.label for phone in phones])}"
        raise DataError(f"{source}: found {found}, expected a first and a last phone {BOUNDARY}")
    _check_order(phones, length, source)
    bounds = [0, *(phone.start for phone in phones[1:]), length]
    return tuple(Segment(*span, phone.label) for span, phone in zip(pairwise(bounds), phones, strict=True))


def _parse_line(line: str, number: int, source: Path) -> Segment:
    fields = LINE.fullmatch(line.strip())
    if fields is None:
        raise DataError(f"{source}, line {number}: found {line!r}, expected two positions and a phone")
    start, end, phone = int(fields[1]), int(fields[2]), fields[3]
    if phone not in SYMBOLS:
        raise DataError(f"{source}, line {number}: found phone {phone!r}, expected one of TIMIT's 61")
    if start >= end:
        raise DataError(f"{source}, line {number}: found a phone from {start} to {end}, expected start < end")
    return Segment(start, end, phone)


def _ends(labels: list[str]) -> str:
    return " ".join(labels) if len(labels) < 4 else f"{labels[0]} ... {labels[-1]}"


def _check_order(phones: list[Segment], length: int, source: Path) -> None:
    if phones[0].start > MAX_MISMATCH:
        raise DataError(f"{source}: found a first phone at sample {phones[0].start:,}, expected it at 0")
    for phone, following in pairwise(phones):
        if following.start <= phone.start:
            found = f"a phone at sample {following.start:,} after one at {phone.start:,}"
            raise DataError(f"{source}: found {found}, expected ascending positions")
        if abs(following.start - phone.end) > MAX_MISMATCH:
            found = f"a phone that ends at sample {phone.end:,} before one that starts at {following.start:,}"
            raise DataError(f"{source}: found {found}, expected at most {MAX_MISMATCH} samples between them")
    if abs(phones[-1].end - length) > MAX_MISMATCH_AT_END or phones[-1].start >= length:
        last = f"a last phone from sample {phones[-1].start:,} to {phones[-1].end:,}"
        found = f"{last} in a recording of {length:,}"
        raise DataError(
            f"{source}: found {found}, expected it to end within {MAX_MISMATCH_AT_END:,} of its end"
        )


def as_trained(phones: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """Replace TIMIT's 61 symbols by the 48 classes; a glottal stop becomes part of what precedes it.

    Args:
        phones: segments without gaps. The first is no glottal stop.
    """
    classes: list[Segment] = []
    for phone in phones:
        if phone.label in TRAINED_AS:
            classes.append(Segment(phone.start, phone.end, TRAINED_AS[phone.label]))
        else:
            classes[-1] = Segment(classes[-1].start, phone.end, classes[-1].label)
    return tuple(classes)
