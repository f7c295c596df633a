"""NIST SPHERE, the format of TIMIT's recordings: 1,024 bytes of text, then the samples."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.data.errors import DataError

MAGIC = b"NIST_1A\n"
HEADER_BYTES = 1_024


def encode_sphere(samples: npt.NDArray[np.int16], sample_rate: int, fields: Mapping[str, str]) -> bytes:
    """A recording as the content of a file.

    Args:
        samples: [n], one channel.
        sample_rate: per second.
        fields: what else the header says, by name; one line of ASCII each.
    """
    numbers = {
        "channel_count": 1,
        "sample_count": len(samples),
        "sample_rate": sample_rate,
        "sample_min": int(samples.min(initial=0)),
        "sample_max": int(samples.max(initial=0)),
        "sample_n_bytes": 2,
        "sample_sig_bits": 16,
    }
    texts = {**fields, "sample_byte_format": "01"}  # little-endian
    lines = [
        *(f"{name} -s{len(text)} {text}" for name, text in texts.items()),
        *(f"{name} -i {number}" for name, number in numbers.items()),
        "end_head\n",
    ]
    header = MAGIC + f"{HEADER_BYTES:7}\n".encode() + "\n".join(lines).encode("ascii")
    return header.ljust(HEADER_BYTES) + samples.astype("<i2").tobytes()


def stated_samples(content: bytes, source: Path) -> int:
    """How many samples the header of a file says that it holds.

    Raises:
        DataError: it does not say.
    """
    found = re.search(rb"^sample_count -i (\d{1,9})\s*$", content[:HEADER_BYTES], re.MULTILINE)
    if found is None:
        raise DataError(f"{source}: found a SPHERE header without sample_count, expected a complete header")
    return int(found[1])
