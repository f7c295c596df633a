"""``training.data.idx`` and ``training.data.content``: round trip, and an error for everything else."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from training.data import DataError, IdxError, content
from training.data.content import md5_of, read_content
from training.data.idx import ELEMENT_TYPES, parse_idx

SOURCE = Path("some-idx3-ubyte")
CODES = {dtype: code for code, dtype in ELEMENT_TYPES.items()}


def write_idx(array: npt.NDArray[Any]) -> bytes:
    big_endian = array.astype(array.dtype.newbyteorder(">"))
    header = bytes([0, 0, CODES[big_endian.dtype], array.ndim])
    return header + np.array(array.shape, ">u4").tobytes() + big_endian.tobytes()


arrays = st.sampled_from(list(CODES)).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(max_dims=8, max_side=4))
)


@given(arrays)
def test_what_was_written_is_read(array: npt.NDArray[Any]) -> None:
    read = parse_idx(write_idx(array), SOURCE)
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype.newbyteorder("=")
    assert read.dtype.isnative
    assert read.flags.writeable


def test_known_bytes() -> None:
    read = parse_idx(bytes.fromhex("0000 0802 00000002 00000003 010203fdfeff"), SOURCE)
    assert read.tolist() == [[1, 2, 3], [253, 254, 255]]


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda tail: b"\0\0\x08" + tail))
def test_garbage_is_an_idx_error(garbage: bytes) -> None:
    try:
        read = parse_idx(garbage, SOURCE)
    except IdxError as error:
        message = str(error)
    else:
        assert write_idx(read) == garbage  # by chance it was valid
        return
    assert message.startswith(str(SOURCE))


@given(arrays, st.data())
def test_a_changed_length_is_an_idx_error(array: npt.NDArray[Any], data: st.DataObject) -> None:
    valid = write_idx(array)
    changed = data.draw(
        st.integers(0, len(valid) - 1).map(lambda end: valid[:end])
        | st.binary(min_size=1, max_size=20).map(lambda extra: valid + extra)
    )
    with pytest.raises(IdxError):
        parse_idx(changed, SOURCE)


@pytest.mark.parametrize(
    ("header", "found", "expected"),
    [
        ("", "a start of nothing", "00 00, a type code"),
        ("1f8b0800", "a start of 1f 8b 08 00", "00 00, a type code"),
        ("00000a01 00000001 00", "type code 0a", "one of 08, 09, 0b, 0c, 0d, 0e"),
        ("00000800 00", "0 dimensions", "1 to 8"),
        ("00000809" + "00000001" * 9 + "00", "9 dimensions", "1 to 8"),
        ("00000803 00000001", "8 bytes", "at least the 16 of a header with 3 dimensions"),
        ("00000802 00000000 ffffffff", "an empty shape (0, 4294967295)", "sizes of at least 1"),
        ("00000801 00000003 0102", "10 bytes", "11 for shape (3,) of uint8"),
        (
            "00000804" + "ffffffff" * 4 + "00",
            "21 bytes",
            f"{20 + (2**32 - 1) ** 4:,} for shape",
        ),
    ],
)
def test_the_error_says_what_was_found_and_expected(header: str, found: str, expected: str) -> None:
    with pytest.raises(IdxError) as raised:
        parse_idx(bytes.fromhex(header), SOURCE)
    assert str(raised.value).startswith(f"{SOURCE}: not a valid IDX file: found {found}, expected {expected}")


@pytest.mark.parametrize("name", ["file", "file.gz"])
@pytest.mark.parametrize("wrap", [bytes, gzip.compress])
def test_content_is_the_same_plain_and_gzip_whatever_the_name(tmp_path: Path, name: str, wrap: Any) -> None:
    path = tmp_path / name
    path.write_bytes(wrap(b"what is inside"))
    assert read_content(path) == b"what is inside"


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-5], lambda b: b[:5], lambda b: b[:-8] + bytes(8), lambda b: b[:10] + b"?" * 30]
)
def test_damaged_gzip(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(damage(gzip.compress(b"what is inside" * 100)))
    with pytest.raises(DataError, match=r"file\.gz: found a damaged gzip stream"):
        read_content(path)


@pytest.mark.parametrize("wrap", [bytes, gzip.compress])
def test_content_over_the_limit(tmp_path: Path, wrap: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "MAX_BYTES", 1_000)
    path = tmp_path / "file"
    path.write_bytes(wrap(bytes(1_000)))
    assert len(read_content(path)) == 1_000
    path.write_bytes(wrap(bytes(1_001)))
    with pytest.raises(DataError, match="more than 1,000 bytes"):
        read_content(path)


def test_md5_is_the_published_one() -> None:
    assert md5_of(b"abc") == "900150983cd24fb0d6963f7d28e17f72"  # RFC 1321
