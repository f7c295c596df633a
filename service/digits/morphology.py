"""The few grey-scale image operations that finding ink needs, on numpy arrays [height, width]."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Grey = NDArray[np.float32]
Mask = NDArray[np.bool_]

_Pixels = TypeVar("_Pixels", Grey, Mask)


def dilate(image: _Pixels, radius: int) -> _Pixels:
    """The maximum over a square of side 2 * radius + 1 around each pixel."""
    return _extreme(image, radius, np.maximum, image.min())


def erode(image: _Pixels, radius: int) -> _Pixels:
    """The minimum over a square of side 2 * radius + 1 around each pixel."""
    return _extreme(image, radius, np.minimum, image.max())


def close(image: _Pixels, radius: int) -> _Pixels:
    """Fill whatever is darker than its surroundings and narrower than 2 * radius + 1; edges and ramps stay as
    they are.
    """
    return erode(dilate(image, radius), radius)


def _extreme(image: _Pixels, radius: int, extreme: np.ufunc, outside: Any) -> _Pixels:
    width = 2 * radius + 1
    for axis in (0, 1):
        lines = np.moveaxis(image, axis, 0)
        lines = np.pad(lines, ((radius, radius), (0, 0)), constant_values=outside)
        span = 1
        while span < width:  # the extreme of a window is that of two shorter ones that overlap
            step = min(span, width - span)
            lines = extreme(lines[:-step], lines[step:])
            span += step
        image = np.moveaxis(lines, 0, axis)
    return image


def spread(image: Grey, radius: int, extreme: np.ufunc) -> Grey:
    """Thicken (`np.maximum`) or thin (`np.minimum`) light strokes by a disc of `radius` pixels; outside
    counts as 0.
    """
    height, width = image.shape
    padded = np.pad(image, radius)
    result = image
    for y in range(-radius, radius + 1):
        for x in range(-radius, radius + 1):
            if y * y + x * x <= (radius + 0.3) ** 2:
                shifted = padded[radius + y : radius + y + height, radius + x : radius + x + width]
                result = extreme(result, shifted)
    return result


def box_mean(image: Grey, radius: int) -> Grey:
    """The mean over a square of side 2 * radius + 1; the image is mirrored at its border."""
    width = 2 * radius + 1
    for axis in (0, 1):
        lines = np.moveaxis(image, axis, 0)
        mirrored = np.pad(lines, ((radius, radius), (0, 0)), mode="symmetric")
        sums = np.cumsum(mirrored, axis=0, dtype=np.float64)
        sums[width:] -= sums[:-width]
        image = np.moveaxis((sums[width - 1 :] / width).astype(np.float32), 0, axis)
    return image


def resize(image: Grey, height: int, width: int, method: Image.Resampling = Image.Resampling.BOX) -> Grey:
    """Resample to [height, width]; BOX averages over area, so it is antialiased when it shrinks."""
    if image.shape == (height, width):
        return image
    picture = Image.fromarray(np.ascontiguousarray(image, np.float32))
    return np.asarray(picture.resize((width, height), method), np.float32)


def gradient(image: Grey) -> Grey:
    """The length of the forward difference at each pixel, [height + 1, width + 1]; outside counts as 0."""
    padded = np.pad(image, 1)
    corner = padded[:-1, :-1]
    slope: Grey = np.hypot(padded[:-1, 1:] - corner, padded[1:, :-1] - corner)
    return slope


def label_regions(mask: Mask) -> tuple[NDArray[np.int64], int]:
    """Number the 8-connected regions of a mask.

    Returns:
        labels [height, width], 0 outside the mask and 1 ... count inside, and count.
    """
    height, width = mask.shape
    steps = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, start = np.nonzero(steps == 1)  # runs of set pixels: row, first column, column after the last
    end = np.nonzero(steps == -1)[1]
    if not len(row):
        return np.zeros((height, width), np.int64), 0

    # Runs touch when they lie in neighbouring rows and their column ranges meet or are diagonal neighbours.
    stride = width + 2
    first = np.searchsorted(row * stride + end, (row + 1) * stride + start, "left")
    last = np.searchsorted(row * stride + start, (row + 1) * stride + end, "right")
    touching = np.maximum(last - first, 0)
    above = np.repeat(np.arange(len(row)), touching)
    below = np.arange(touching.sum()) - np.repeat(np.cumsum(touching) - touching - first, touching)

    root = np.arange(len(row))
    # Hook the higher of two touching roots onto the lower, then shorten all paths, until nothing changes.
    while True:
        lower = np.minimum(root[above], root[below])
        hooked = root.copy()
        np.minimum.at(hooked, root[above], lower)
        np.minimum.at(hooked, root[below], lower)
        while not np.array_equal(shorter := hooked[hooked], hooked):
            hooked = shorter
        if np.array_equal(hooked, root):
            break
        root = hooked
    roots, label = np.unique(root, return_inverse=True)

    painted = np.zeros(height * width + 1, np.int64)
    np.add.at(painted, row * width + start, label + 1)
    np.add.at(painted, row * width + end, -(label + 1))
    return np.cumsum(painted[:-1]).reshape(height, width), len(roots)
