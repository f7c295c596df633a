"""Where the recordings of the Free Spoken Digit Dataset are, and the archive they come from."""

import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from training.data.content import md5_of, read_content
from training.data.download import DownloadError, download
from training.data.errors import DataError
from training.data.lock import locked

NAME = "fsdd"
ARCHIVE = "free-spoken-digit-dataset-1.0.10.tar.gz"
# Of the uncompressed content, which is what `git archive` makes of the tag; the gzip wrapper may change.
ARCHIVE_MD5 = "5f82ad365f601648754510da4a578285"
MIRRORS = (
    "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz",
    "https://codeload.github.com/Jakobovski/free-spoken-digit-dataset/tar.gz/refs/tags/v1.0.10",
)
MEMBER = re.compile(r"free-spoken-digit-dataset-[^/]+/recordings/(\d_[a-z]+_\d{1,2}\.wav)")
MAX_BYTES = 2**18  # of a recording; the longest has 36,568


def provide_recordings(names: Iterable[str], root: Path) -> dict[str, Path]:
    """Find recordings, and download the data set if some are nowhere.

    Args:
        names: such as ``7_george_3.wav``.
        root: the data directory.

    Returns:
        Where they are, by name, in the order of ``names``: the first of ``root/fsdd/recordings``,
        ``root/fsdd``, ``root/recordings`` and ``root`` that has it.

    Raises:
        DataError: some are missing and cannot be downloaded.
    """
    names = list(names)
    if _missing(names, root):
        _download(names, root)
    return {name: path for name in names if (path := _find(name, root))}


def _find(name: str, root: Path) -> Path | None:
    folders = (root / NAME / "recordings", root / NAME, root / "recordings", root)
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def _missing(names: Iterable[str], root: Path) -> list[str]:
    return [name for name in names if _find(name, root) is None]


def _download(names: list[str], root: Path) -> None:
    """Unpack what is missing into ``root/fsdd/recordings``; what is already there is left as it is."""
    archive = root / NAME / ARCHIVE
    try:
        with locked(root / NAME / ".lock"):
            if missing := _missing(names, root):
                download(MIRRORS, archive, md5=ARCHIVE_MD5)
                unpack(_read_archive(archive), missing, root / NAME / "recordings")
                archive.unlink()
    except (DownloadError, OSError) as error:
        missing = _missing(names, root)
        raise DataError(
            f"The Free Spoken Digit Dataset is not complete in {root} ({_summary(missing)}), and downloading "
            f"failed:\n{error}\n"
            f"Get {MIRRORS[0]} some other way and put its folder recordings into {root / NAME}.\n"
            "Or set --data or MOMENTUM_DATA to a directory that has the recordings, "
            "or name the speakers you have in the option speakers."
        ) from error


def _summary(missing: list[str]) -> str:
    counts = Counter(name.split("_")[1] for name in missing)
    examples = {name.split("_")[1]: name for name in reversed(missing)}
    return "; ".join(f"{name}: {count} missing, such as {examples[name]}" for name, count in counts.items())


def _read_archive(path: Path) -> bytes:
    """The archive's content, which may be one that was put there by hand."""
    content = read_content(path)
    if (found := md5_of(content)) != ARCHIVE_MD5:
        expected = f"{ARCHIVE_MD5} (the archive of version 1.0.10)"
        raise DataError(f"{path}: found content with MD5 {found}, expected {expected}. Remove the file.")
    return content


def unpack(archive: bytes, names: Iterable[str], folder: Path) -> None:
    """Write recordings out of the data set's archive. Nothing else in it is touched, whatever its paths say.

    Every file appears whole or not at all.

    Args:
        archive: an uncompressed tar file.
        names: which recordings.
        folder: where they go; it is created.

    Raises:
        DataError: the archive is damaged, or does not have one of them as a regular file of at most
            ``MAX_BYTES``.
        OSError: a file cannot be written.
    """
    wanted = set(names)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(fileobj=BytesIO(archive)) as tar:
            for member in tar:
                name = MEMBER.fullmatch(member.name)
                if not name or name[1] not in wanted or not member.isreg() or member.size > MAX_BYTES:
                    continue
                if content := tar.extractfile(member):
                    _write(folder / name[1], content.read())
                    wanted.remove(name[1])
    except tarfile.TarError as error:
        raise DataError(f"found a damaged archive ({error}), expected {ARCHIVE}") from error
    if wanted:
        raise DataError(f"found an archive without {min(wanted)}, expected {ARCHIVE}")


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)
