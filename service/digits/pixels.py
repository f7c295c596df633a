"""The JSON body of POST /v1/digits -> pixels, with an error that says what was sent and what was expected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from service.digits.ink import FIELD
from service.digits.morphology import Grey
from service.http.documents import JSONTooLargeError, read_json
from service.http.words import describe

PIXELS = FIELD * FIELD
_SHAPES = f"{FIELD} rows of {FIELD} numbers, or {PIXELS} numbers"
# What JSON may have for each image: a number is up to 24 characters, and as many may be indentation; there is
# a list for each row, and the rest is for what is around the images.
_IMAGE_BYTES = 48 * PIXELS
_IMAGE_CONTAINERS = FIELD + 4


class NotJSONError(ValueError):
    """The body is not JSON."""


class InvalidPixelsError(ValueError):
    """The body is JSON, but not the pixels of images; the message says where and why."""


class BlankPixelsError(ValueError):
    """All pixels of an image have the same value."""


@dataclass(frozen=True)
class Images:
    """What a request asks about: pixels [count, 784] in [0, 1], and whether it was a batch."""

    pixels: Grey
    batch: bool


def parse(body: bytes, max_batch: int) -> Images:
    """Parse `{"pixels": image}` or `{"images": [image, ...]}`.

    An image is 28 rows of 28 numbers or 784 numbers, light ink (high) on a dark ground (low) as in MNIST.
    Numbers are 0 to 1, or, in an image that holds one above 1, 0 to 255. They are taken as they are.

    Raises:
        NotJSONError, InvalidPixelsError, BlankPixelsError
    """
    try:
        document = read_json(body, max_batch * _IMAGE_BYTES, max_batch * _IMAGE_CONTAINERS)
    except JSONTooLargeError as error:
        raise InvalidPixelsError(f"the body has {error} for {max_batch} images") from None
    except orjson.JSONDecodeError as error:
        raise NotJSONError(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidPixelsError(f"the body is {describe(document)}, not an object")
    if set(document) == {"pixels"}:
        return Images(_image(document["pixels"], "pixels")[None], batch=False)
    if set(document) != {"images"}:
        names = ", ".join(repr(name) for name in list(document)[:5]) or "no fields"
        raise InvalidPixelsError(
            f"the body has {names}; it must have either 'pixels' or 'images' and nothing else"
        )
    images = document["images"]
    if not isinstance(images, list):
        raise InvalidPixelsError(f"images is {describe(images)}, not a list of images")
    if not 1 <= len(images) <= max_batch:
        raise InvalidPixelsError(f"images has {len(images)} entries; it must have 1 to {max_batch}")
    pixels = [_image(image, f"images[{index}]") for index, image in enumerate(images)]
    return Images(np.stack(pixels), batch=True)


def _image(value: Any, name: str) -> Grey:
    """One image [784] in [0, 1]."""
    if not isinstance(value, list):
        raise InvalidPixelsError(f"{name} is {describe(value)}, not a list of numbers")
    rows = value if value and isinstance(value[0], list) else [value]
    nested = rows is value
    if nested and len(rows) != FIELD:
        raise InvalidPixelsError(f"{name} has {len(rows)} rows; it must be {_SHAPES}")
    for index, row in enumerate(rows):
        where = f"{name}[{index}]" if nested else name
        if not isinstance(row, list):
            raise InvalidPixelsError(
                f"{where} is {describe(row)}, though {name}[0] is a list: it must be {_SHAPES}"
            )
        if len(row) != (FIELD if nested else PIXELS):
            raise InvalidPixelsError(f"{where} has {len(row)} numbers; {name} must be {_SHAPES}")
        if not set(map(type, row)) <= {int, float}:
            column, wrong = next((i, v) for i, v in enumerate(row) if type(v) not in (int, float))
            raise InvalidPixelsError(f"{where}[{column}] is {describe(wrong)}, not a number")
    pixels = np.array(rows, np.float64).ravel()
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 255:
        index = int(pixels.argmin() if low < 0 else pixels.argmax())
        where = f"[{index // FIELD}][{index % FIELD}]" if nested else f"[{index}]"
        raise InvalidPixelsError(f"{name}{where} is {pixels[index]:g}; numbers must be 0 to 1, or 0 to 255")
    if low == high:
        raise BlankPixelsError(f"all pixels of {name} are {low:g}: there is no ink")
    return np.asarray(pixels / 255 if high > 1 else pixels, np.float32)
