"""The results: a folder of Parquet files, called parts, that is read as one table.

A part is written under another name, flushed to the disk, and renamed: it is whole, or not there. The next
run reads from the parts which files are done.
"""

from __future__ import annotations

import csv
import errno
import fcntl
import json
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from service.batch.classification import Row
from service.engine import Model

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("model", pa.string()),
        ("version", pa.string()),
        ("label", pa.string()),
        ("probability", pa.float32()),
        ("probabilities", pa.list_(pa.float32())),
        ("duration", pa.float64()),
        (
            "segments",
            pa.list_(
                pa.struct(
                    [
                        ("label", pa.string()),
                        ("start", pa.float64()),
                        ("end", pa.float64()),
                        ("probability", pa.float32()),
                    ]
                )
            ),
        ),
        ("error", pa.string()),
    ]
)

_MODELS = "_models.json"  # readers of Parquet pass over what begins with _ or .
_LOCK = "_lock"
_PART = "part-{:06d}.parquet"


class ResultsError(Exception):
    """The folder can't be written to or gone on with; the message says why, and what to do."""


class Results:
    """A folder of parts. One process at a time may have it open.

    Args:
        folder: made if it is not there.

    Attributes:
        done: how many files have rows.
        bad: how many of these say what is wrong.

    Raises:
        ResultsError
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise ResultsError(f"{folder} is a file: results are a folder of files, give another") from None
        except OSError as error:
            raise _unusable(folder, error) from error
        self._read_models()  # leaves other folders as they are
        self._lock = _lock(folder)
        self.done = self.bad = 0
        try:
            self.models = self._read_models()
            for left in folder.glob(".*.tmp"):
                left.unlink()
            self._parts = sorted(folder.glob(_PART.format(0).replace("000000", "*")))
            self._earlier = _Names(b"".join(self._digests()))
        except BaseException:
            os.close(self._lock)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._lock)

    @property
    def errors(self) -> Path:
        """Where `list_errors` writes."""
        return self.folder.with_name(self.folder.name.removesuffix(".parquet") + ".errors.csv")

    def begin(self, models: Mapping[str, Model]) -> None:
        """Note which models the results are of."""
        self.models |= {
            name: {"version": model.card.version, "sha256": model.card.file.sha256}
            for name, model in models.items()
        }
        with self._replacing(_MODELS) as path:
            path.write_text(json.dumps(self.models, indent=1) + "\n")

    def has(self, name: str) -> bool:
        """Whether an earlier run has done a file. A name that the input has twice has two rows, so each row
        is told of once.
        """
        return self._earlier.take(name)

    def write(self, rows: list[Row]) -> None:
        """Write a part.

        Raises:
            OSError
        """
        number = int(self._parts[-1].stem.removeprefix("part-")) + 1 if self._parts else 0
        path = self.folder / _PART.format(number)
        with self._replacing(path.name) as temporary:
            parquet.write_table(pa.Table.from_pylist(rows, SCHEMA), temporary, compression="zstd")
        self._parts.append(path)
        self.done += len(rows)
        self.bad += sum("error" in row for row in rows)

    def list_errors(self) -> None:
        """Write a CSV file of the files that something is wrong with, if there are any.

        Raises:
            OSError
        """
        if not self.bad:
            self.errors.unlink(missing_ok=True)
            return
        temporary = self.errors.with_name(f".{self.errors.name}.tmp")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("path", "error"))
            for part in self._parts:
                table = parquet.read_table(part, columns=["path", "error"], schema=SCHEMA)
                bad = table.filter(table["error"].is_valid())
                writer.writerows(zip(*(column.to_pylist() for column in bad.columns), strict=True))
        temporary.replace(self.errors)

    def _read_models(self) -> dict[str, dict[str, str]]:
        path = self.folder / _MODELS
        try:
            return dict(json.loads(path.read_bytes()))
        except FileNotFoundError:
            names = [other.name for other in self.folder.iterdir()]
            others = [name for name in names if not name.startswith(".") and name != _LOCK]
            if others:
                raise ResultsError(
                    f"{self.folder} holds {others[0]}, and no {_MODELS}: give a folder of its own"
                ) from None
            return {}
        except (OSError, ValueError) as error:
            raise ResultsError(f"{path} cannot be read ({error}): give another folder") from error

    def _digests(self) -> Iterator[bytes]:
        """Of the names that have rows."""
        for part in self._parts:
            try:
                table = parquet.read_table(part, columns=["path", "error"], schema=SCHEMA)
            except (OSError, pa.ArrowException) as error:
                raise ResultsError(
                    f"{part} cannot be read ({error}): remove it, and its files are classified again"
                ) from error
            self.done += table.num_rows
            self.bad += table.num_rows - table["error"].null_count
            yield b"".join(map(_digest, table["path"].to_pylist()))

    @contextmanager
    def _replacing(self, name: str) -> Iterator[Path]:
        """A path to write a file at. It gets its name when it is on the disk."""
        temporary = self.folder / f".{name}.tmp"
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(self.folder / name)
            _sync(self.folder)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def _unusable(folder: Path, error: OSError) -> ResultsError:
    return ResultsError(f"{folder} cannot be used: {error.strerror}")


def _lock(folder: Path) -> int:
    """Keep others out for as long as the descriptor is open. On NFS that takes a file, open for writing."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise _unusable(folder, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        # NFS, where these are locks of ranges, may say EACCES.
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise ResultsError(f"another process writes to {folder}") from None
        raise ResultsError(f"{folder} cannot be locked: {error.strerror}") from error
    return lock


def _sync(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


class _Names:
    """Names, 17 bytes each whatever their lengths.

    Args:
        digests: of the names.
    """

    def __init__(self, digests: bytes) -> None:
        halves = np.frombuffer(digests, ">u8").reshape(-1, 2).astype(np.uint64)
        halves = halves[np.lexsort((halves[:, 1], halves[:, 0]))]
        self._first, self._second = np.ascontiguousarray(halves.T)
        self._taken = np.zeros(len(halves), np.bool_)

    def take(self, name: str) -> bool:
        """Whether the name is there; if so it is taken out, once."""
        first, second = map(np.uint64, struct.unpack(">QQ", _digest(name)))
        index = int(np.searchsorted(self._first, first))
        while index < len(self._first) and self._first[index] == first:
            if self._second[index] == second and not self._taken[index]:
                self._taken[index] = True
                return True
            index += 1
        return False


def _digest(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=16).digest()
