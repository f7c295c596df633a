"""The content of a file, whether or not it is wrapped in gzip."""

import gzip
import hashlib
import zlib
from pathlib import Path

from training.data.errors import DataError

MAX_BYTES = 256 * 2**20
GZIP_MAGIC = b"\x1f\x8b"


def read_content(path: Path) -> bytes:
    """Read a file, decompressed if it is gzip.

    Gzip is recognised by its first two bytes, because browsers save ``x.gz`` decompressed under
    that same name.

    Args:
        path: the file.

    Returns:
        The uncompressed bytes, at most ``MAX_BYTES`` of them.

    Raises:
        DataError: the gzip stream is damaged, or the content is longer than ``MAX_BYTES``.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        compressed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    try:
        with gzip.open(path) if compressed else path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: found a damaged gzip stream ({error}), expected a complete one") from error
    if len(content) > MAX_BYTES:
        raise DataError(f"{path}: found more than {MAX_BYTES:,} bytes of content, expected at most that many")
    return content


def md5_of(content: bytes) -> str:
    """MD5 of ``content`` in hexadecimal: the checksum that publishers of data sets state."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
