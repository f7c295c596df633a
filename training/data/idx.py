"""The IDX format: a typed array after a header of big-endian sizes (http://yann.lecun.com/exdb/mnist/)."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from training.data.errors import DataError

ELEMENT_TYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
MAX_DIMENSIONS = 8


class IdxError(DataError):
    """A file is not valid IDX."""

    def __init__(self, source: Path, *, found: str, expected: str) -> None:
        super().__init__(f"{source}: not a valid IDX file: found {found}, expected {expected}")


def parse_idx(content: bytes, source: Path) -> npt.NDArray[Any]:
    """Decode the (uncompressed) content of an IDX file.

    Args:
        content: two zero bytes, a type code, the number of dimensions D, D sizes as big-endian 32-bit
            integers, and the elements in C order, big-endian.
        source: where the content came from, for messages.

    Returns:
        A writable array of the stored shape in the machine's byte order.

    Raises:
        IdxError: anything in the header is unknown, a dimension is empty, or the length is not exactly what
            the header announces.
    """
    if len(content) < 4 or content[:2] != b"\0\0":
        raise IdxError(
            source,
            found=f"a start of {content[:4].hex(' ') or 'nothing'}",
            expected="00 00, a type code, and the number of dimensions",
        )
    code, dimensions = content[2], content[3]
    if code not in ELEMENT_TYPES:
        known = ", ".join(f"{known:02x}" for known in ELEMENT_TYPES)
        raise IdxError(source, found=f"type code {code:02x}", expected=f"one of {known}")
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise IdxError(source, found=f"{dimensions} dimensions", expected=f"1 to {MAX_DIMENSIONS}")
    header = 4 + 4 * dimensions
    if len(content) < header:
        raise IdxError(
            source,
            found=f"{len(content)} bytes",
            expected=f"at least the {header} of a header with {dimensions} dimensions",
        )
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", count=dimensions, offset=4))
    if 0 in shape:
        raise IdxError(source, found=f"an empty shape {shape}", expected="sizes of at least 1")
    dtype = ELEMENT_TYPES[code]
    length = header + math.prod(shape) * dtype.itemsize
    if len(content) != length:
        raise IdxError(
            source, found=f"{len(content):,} bytes", expected=f"{length:,} for shape {shape} of {dtype.name}"
        )
    return np.frombuffer(content, dtype, offset=header).reshape(shape).astype(dtype.newbyteorder("="))
