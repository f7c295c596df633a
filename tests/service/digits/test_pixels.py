"""The JSON body's parser: right pixels, or an error that says what was wrong where."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.digits.pixels import BlankPixelsError, InvalidPixelsError, NotJSONError, parse

ROWS = (np.arange(784).reshape(28, 28) % 256).tolist()
SHARES = (np.arange(784) / 783).tolist()


def parsed(document: Any, max_batch: int = 4) -> Any:
    return parse(json.dumps(document).encode(), max_batch)


def changed(row: int, column: int, value: Any) -> list[list[Any]]:
    rows = [list(row) for row in ROWS]
    rows[row][column] = value
    return rows


def test_rows_and_a_flat_list_are_the_same_image() -> None:
    nested = parsed({"pixels": ROWS})
    flat = parsed({"pixels": np.ravel(ROWS).tolist()})
    assert not nested.batch
    assert nested.pixels.shape == (1, 784)
    assert nested.pixels.dtype == np.float32
    np.testing.assert_array_equal(nested.pixels, flat.pixels)


def test_numbers_above_one_mean_0_to_255() -> None:
    np.testing.assert_array_equal(parsed({"pixels": SHARES}).pixels[0], np.float32(SHARES))
    np.testing.assert_allclose(parsed({"pixels": ROWS}).pixels[0], np.ravel(ROWS) / 255, atol=1e-7)
    bilevel = [0, 1] * 392
    np.testing.assert_array_equal(parsed({"pixels": bilevel}).pixels[0], bilevel)


def test_a_batch_keeps_its_order_and_scales_each_image_alone() -> None:
    asked = parsed({"images": [SHARES, ROWS, [0, 1] * 392]})
    assert asked.batch
    alone = [parsed({"pixels": image}).pixels[0] for image in (SHARES, ROWS, [0, 1] * 392)]
    np.testing.assert_array_equal(asked.pixels, alone)


def test_a_batch_of_one_is_a_batch() -> None:
    assert parsed({"images": [ROWS]}).batch


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "the body is a list, not an object"),
        (None, "the body is null"),
        ({}, "the body has no fields"),
        ({"pixel": ROWS}, "the body has 'pixel'"),
        ({"pixels": ROWS, "images": [ROWS]}, "the body has 'pixels', 'images'"),
        ({"pixels": 3}, "pixels is the number 3"),
        ({"pixels": "abc"}, "pixels is the string 'abc'"),
        ({"pixels": []}, "pixels has 0 numbers"),
        ({"pixels": SHARES[:-1]}, "pixels has 783 numbers"),
        ({"pixels": ROWS[:-1]}, "pixels has 27 rows"),
        ({"pixels": [*ROWS[:-1], ROWS[0][:-1]]}, r"pixels\[27\] has 27 numbers"),
        ({"pixels": [*ROWS[:-1], 5]}, r"pixels\[27\] is the number 5, though pixels\[0\] is a list"),
        ({"pixels": [0.5, *ROWS[1:]]}, "pixels has 28 numbers"),
        ({"pixels": changed(3, 5, None)}, r"pixels\[3\]\[5\] is null, not a number"),
        ({"pixels": changed(3, 5, True)}, r"pixels\[3\]\[5\] is true, not a number"),
        ({"pixels": changed(3, 5, "7")}, r"pixels\[3\]\[5\] is the string '7', not a number"),
        ({"pixels": changed(3, 5, [1])}, r"pixels\[3\]\[5\] is a list, not a number"),
        ({"pixels": changed(3, 5, {})}, r"pixels\[3\]\[5\] is an object, not a number"),
        ({"pixels": changed(3, 5, -1)}, r"pixels\[3\]\[5\] is -1; numbers must be 0 to 1, or 0 to 255"),
        ({"pixels": changed(3, 5, 256)}, r"pixels\[3\]\[5\] is 256"),
        ({"pixels": [1e300, *SHARES[1:]]}, r"pixels\[0\] is 1e\+300"),
        ({"pixels": [10**40, *SHARES[1:]]}, r"pixels\[0\] is 1e\+40"),
        ({"images": ROWS[0][0]}, "images is the number 0"),
        ({"images": []}, "images has 0 entries; it must have 1 to 4"),
        ({"images": [SHARES] * 5}, "images has 5 entries; it must have 1 to 4"),
        ({"images": [ROWS, SHARES[1:]]}, r"images\[1\] has 783 numbers"),
        ({"images": [ROWS, changed(0, 1, math.pi * -1)]}, r"images\[1\]\[0\]\[1\] is -3.14159"),
    ],
)
def test_what_is_wrong_is_named(document: Any, message: str) -> None:
    with pytest.raises(InvalidPixelsError, match=f"^{message}"):
        parsed(document)


@pytest.mark.parametrize("value", [0, 0.5, 1, 255])
def test_images_of_one_value_are_blank(value: float) -> None:
    with pytest.raises(BlankPixelsError, match=r"all pixels of images\[1\] are"):
        parsed({"images": [ROWS, [value] * 784]})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"pixels": [NaN]}',
        b'{"pixels": [Infinity]}',
        b"\xff\xfe",
        b'{"pixels": [1e999]}',
        b"[" * 100,
    ],
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(NotJSONError):
        parse(body, 4)


@pytest.mark.parametrize("container", ["[]", "{}", "[[[]]]", '"[["'])
def test_more_lists_than_images_have_are_not_read(container: str) -> None:
    """They would take many times as much memory as the text, and hold up the event loop."""
    body = f'{{"images": [{",".join([container] * 1000)}]}}'.encode()
    with pytest.raises(InvalidPixelsError, match="lists and objects; expected at most 128 for 4 images"):
        parse(body, 4)


def test_more_json_than_images_have_is_not_read() -> None:
    body = f'{{"images": [{"0," * 10**6}0]}}'.encode()
    with pytest.raises(
        InvalidPixelsError, match=rf"the body has {len(body)} bytes of JSON; expected at most"
    ):
        parse(body, 4)


def test_images_may_be_written_at_length() -> None:
    images = np.random.default_rng(0).uniform(0, 1, (4, 28, 28)) ** 9
    text = json.dumps({"images": images.tolist()}, indent=4)
    np.testing.assert_array_equal(parse(text.encode(), 4).pixels, np.float32(images.reshape(4, 784)))


numbers = st.one_of(st.integers(-300, 300), st.floats(-2, 300), st.integers(), st.floats(allow_nan=False))
leaves = st.one_of(numbers, st.none(), st.booleans(), st.text(max_size=3))
nearly_images = st.builds(
    lambda rows, spoiled: [spoiled if value is None else value for value in rows],
    st.lists(st.sampled_from([0, 1, 255, 0.5, None]), min_size=783, max_size=785),
    leaves,
)
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner)
)
documents = st.one_of(
    anything,
    st.fixed_dictionaries({"pixels": st.one_of(anything, nearly_images)}),
    st.fixed_dictionaries({"images": st.one_of(anything, st.lists(nearly_images, max_size=3))}),
)


@settings(max_examples=60)
@given(documents)
def test_any_json_gives_pixels_in_range_or_a_typed_error(document: Any) -> None:
    try:
        asked = parsed(document)
    except (NotJSONError, InvalidPixelsError, BlankPixelsError):
        return
    assert asked.pixels.shape[1:] == (784,)
    assert np.isfinite(asked.pixels).all()
    assert 0 <= asked.pixels.min() < asked.pixels.max() <= 1


@given(st.binary(max_size=60))
def test_any_bytes_end_in_a_typed_error(body: bytes) -> None:
    with pytest.raises((NotJSONError, InvalidPixelsError)):
        parse(body, 4)
