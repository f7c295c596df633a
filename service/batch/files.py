"""Which files are to be classified: those of a folder, or of a list. Both are read as the work goes on."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Task = Literal["digits", "frames"]

_SUFFIXES: dict[Task, str] = {
    "digits": ".png .jpg .jpeg .jpe .jfif .webp .gif .bmp .dib",
    "frames": ".wav .wave .rf64 .w64 .flac .ogg .oga .opus .mp3 .sph .nist .aif .aiff .aifc .au .snd .caf",
}
_TASKS = {suffix: task for task, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}
_STDIN = "-"


class InputError(ValueError):
    """There is no such folder or list; the message says what is there, and what is expected."""


@dataclass(frozen=True, slots=True)
class File:
    """One file.

    Attributes:
        name: what results call it: its path below the folder, or as the list has it.
        path: where it is.
        problem: why it need not be opened, empty if it is to be.
    """

    name: str
    path: str
    problem: str = ""

    @property
    def task(self) -> Task | None:
        """What is to be done with it, by its name's ending; None if that tells nothing."""
        return _TASKS.get(Path(self.path).suffix.lower())


class Input:
    """A folder or a list of files.

    Args:
        source: a folder; a text file with a path a line, relative to where it lies; or - for standard input.
        skipped: paths that a folder's files are not looked for in.

    Raises:
        InputError
    """

    def __init__(self, source: str, skipped: Iterable[Path] = ()) -> None:
        path = Path(source)
        self._source = source
        self._folder = source != _STDIN and path.is_dir()
        self._skipped = {os.path.realpath(skip) for skip in skipped}
        if source == _STDIN or self._folder:
            return
        if not path.is_file():
            raise InputError(f"{source}: there is no such folder or file")
        if path.suffix.lower() in _TASKS:
            raise InputError(
                f"{source}: this is a file to be classified; give its folder, or a list of paths"
            )

    def files(self) -> Iterator[File]:
        """The files: a folder's and its folders', each sorted by name, without hidden ones; a list's in its
        order. Of a folder no more is held than the names in it.

        Raises:
            OSError: the folder or the list can't be read.
        """
        if self._folder:
            yield from self._walk()
        elif self._source == _STDIN:
            # A file object of its own: Python would abort if sys.stdin were being read when it ends.
            with open(sys.stdin.fileno(), "rb", closefd=False) as lines:
                yield from _listed(lines, Path())
        else:
            with Path(self._source).open("rb") as lines:
                yield from _listed(lines, Path(self._source).parent)

    def count(self) -> int | None:
        """How many there are; None where that can be told by reading them alone."""
        return None if self._source == _STDIN else sum(1 for _ in self.files())

    def _walk(self) -> Iterator[File]:
        levels = [iter(self._entries(self._source, ""))]
        while levels:
            entry = next(levels[-1], None)
            if entry is None:
                levels.pop()
            elif not entry[1]:
                yield entry[0]
            else:
                folder = entry[0]
                try:
                    levels.append(iter(self._entries(folder.path, folder.name + "/")))
                except OSError as error:
                    yield File(folder.name, folder.path, f"the folder cannot be read: {error.strerror}")

    def _entries(self, folder: str, prefix: str) -> list[tuple[File, bool]]:
        """What is in a folder, and whether it is a folder itself. Links to folders may lead in circles and
        are no folders here.
        """
        place = os.path.realpath(folder)
        with os.scandir(folder) as entries:
            found = sorted(
                (entry.name, entry.path, entry.is_dir(follow_symlinks=False))
                for entry in entries
                if not entry.name.startswith(".") and f"{place}/{entry.name}" not in self._skipped
            )
        return [(File(_text(prefix + name), path), is_folder) for name, path, is_folder in found]


def _listed(lines: Iterable[bytes], folder: Path) -> Iterator[File]:
    for line in lines:
        path = os.fsdecode(line.rstrip(b"\r\n"))
        if path.strip():
            yield File(_text(path), str(folder / path))


def _text(name: str) -> str:
    """A name as UTF-8 has it: the system's may be any bytes."""
    return name.encode(errors="backslashreplace").decode()
