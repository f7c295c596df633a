"""From a picture of a digit to the 28x28 image that MNIST would hold of it.

MNIST's makers scaled each digit's ink into a 20x20 box, keeping its aspect, and placed its centre of mass at
the centre of a 28x28 field: light ink on a dark ground (LeCun et al., "Gradient-based learning applied to
document recognition", 1998, section III A). Their scans were black and white; ours are photographs, so the
ink has to be found first, under uneven light, shadows, noise, ruled lines and the edge of the paper.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.digits.morphology import (
    Grey,
    Mask,
    box_mean,
    close,
    dilate,
    erode,
    gradient,
    label_regions,
    resize,
    spread,
)

FIELD = 28
BOX = 20
SMALLEST, NARROWEST = 8, 3  # pixels of the longer and the shorter side; below that no digit can be told

# A share of the longer side, wider than half a stroke of any digit and narrower than most shadows.
_STROKE_REACH = 0.15
# Pixels a side: a photograph has noise and shading to tell from ink, a smaller picture is hardly one.
_PHOTOGRAPH = 64
# MNIST's own strokes: the median and the 92nd percentile of `_stroke_width` over its training set, in pixels.
_THINNEST, _THICKEST = 2.3, 3.4
# Redrawn strokes are more even than scanned ones. Softened by 0.6 pixels they are read better: 97.6 % instead
# of 95.4 % of 1,800 synthetic photos (100 digits, 18 kinds of pen, light and paper) by version 1 of the
# digits model.
_SOFTENING = 0.18
_FINE = 4  # strokes are mended at this multiple of the final resolution


_Number = TypeVar("_Number", bound=np.generic)


class NoInkError(ValueError):
    """The picture shows no strokes that stand out from their ground; the message says what was looked for."""


def to_mnist(grey: Grey) -> Grey:
    """Redraw the digit in a picture as MNIST would hold it.

    Args:
        grey: [height, width] luminance in [0, 1], dark ink on light ground or light on dark.

    Returns:
        [28, 28] in [0, 1], light ink on a dark ground. An image that already is in that form comes out almost
        unchanged.

    Raises:
        NoInkError: nothing in the picture looks like strokes, or it is smaller than 8 x 3 pixels.
    """
    if max(grey.shape) < SMALLEST or min(grey.shape) < NARROWEST:
        raise NoInkError(
            f"the picture is too small or too narrow: {SMALLEST} x {NARROWEST} pixels is the least"
        )
    sheet = _sheet(grey)
    if sheet is not None:
        try:
            return _draw(_find(sheet))
        except NoInkError:
            pass  # a solid shape may be the ink itself
    return _draw(_find(grey))


def _sheet(grey: Grey) -> Grey | None:
    """The inside of a sheet of paper on a darker table, or of a board on a lighter wall; None without one."""
    height, width = grey.shape
    if min(height, width) < _PHOTOGRAPH:
        return None
    scale = 32 / max(height, width)
    rows, columns = max(SMALLEST, round(height * scale)), max(SMALLEST, round(width * scale))
    coarse = resize(grey, rows, columns)
    if np.ptp(coarse) < 0.05:
        return None
    inner = coarse > _otsu(coarse)
    if _border(inner).mean() > 0.5:
        inner = ~inner
    if _border(inner).mean() > 0.25:
        return None
    labels, _ = label_regions(inner)
    largest = labels == np.bincount(labels[inner]).argmax()
    top, bottom, left, right = _bounds(largest)
    tall, wide = bottom - top, right - left
    solid = largest.sum() >= 0.75 * tall * wide and largest.sum() >= 0.2 * rows * columns
    if not solid or tall < 0.4 * rows or wide < 0.4 * columns:
        return None
    y, x = height / rows, width / columns  # one coarse pixel in from the edge, which may be half table
    return grey[int((top + 1) * y) : int((bottom - 1) * y), int((left + 1) * x) : int((right - 1) * x)]


def _otsu(grey: Grey) -> float:
    """The threshold that parts the values into the two most distinct classes (Otsu, 1979)."""
    counts, edges = np.histogram(grey, 64)
    centres = (edges[:-1] + edges[1:]) / 2
    below, mass = np.cumsum(counts)[:-1], np.cumsum(counts * centres)[:-1]
    above = counts.sum() - below
    between = (counts @ centres * below / counts.sum() - mass) ** 2 / (below * above)
    return float(edges[between.argmax() + 1])


def _find(grey: Grey) -> Grey:
    """The digit's ink cut out of a picture: [height, width] in [0, 1], 1 where the ink is full, 0 on the
    ground.
    """
    side = max(grey.shape)
    if _ink_is_light(grey):
        grey = 1 - grey
    if side >= _PHOTOGRAPH:
        grey = _smooth(grey, 0.25)

    # The ground is what a closing leaves: it fills the strokes and follows ramps and shadow edges. Light and
    # shadow multiply ink and ground alike, so the share of light that the ink takes away does not depend on
    # them.
    ground = close(grey, max(2, round(_STROKE_REACH * side)))
    ink = 1 - (grey + 0.02) / (ground + 0.02)
    quarter, half = np.percentile(ink, (25, 50))
    noise = max(_noise(ink), min((half - quarter) / 0.67, 0.06))  # 0.67: half a normal's interquartile range
    level = quarter + 0.67 * noise  # a closing follows the noise's maxima, so the ground's ink is above 0
    ink = np.clip((ink - level) / (1 - level), 0, 1)

    floor = max(0.05, 4 * noise)
    few = max(4, ink.size // 2000)
    peak = float(np.partition(ink, -few, axis=None)[-few])
    if peak < 1.2 * floor:
        raise NoInkError("nothing stands out from the ground")
    stroke = ink > max(floor, 0.4 * peak)
    digit = _choose(ink, stroke)
    full = float(np.percentile(ink[digit], 75))
    if side >= _PHOTOGRAPH:
        if full < 6.5 * noise:
            raise NoInkError("nothing stands out from the picture's noise")
        if _border(digit).mean() > 0.06 and _edge_width(ink, digit, full) > 0.12 * side:
            raise NoInkError("there is only shading, no strokes with edges")

    empty = min(2 * noise, 0.3 * full)
    reach = dilate(digit, _join(side) + 1)
    ink = np.clip((ink - empty) / (full - empty), 0, 1) * reach
    top, bottom, left, right = _bounds(ink > (0.1 if side < _PHOTOGRAPH else 0.3))
    return np.asarray(ink[top:bottom, left:right], np.float32)


def _ink_is_light(grey: Grey) -> bool:
    """Whether the ink is lighter than its ground.

    Ink is the smaller part of a neighbourhood, so the difference from the local mean is lopsided towards it.
    Where it is not (a digit that fills a tight crop), the picture's border shows the ground.
    """
    step = max(1, min(grey.shape) // 120)
    if step > 1:
        grey = resize(grey, grey.shape[0] // step, grey.shape[1] // step)
    lopsided = 0.0
    # Of these scales, one is wider than the strokes and narrower than the shadows: it shows the most.
    for part in (32, 16, 8, 4):
        difference = grey - box_mean(grey, max(1, min(grey.shape) // part))
        variance = float(np.mean(difference**2))
        skewness = float(np.mean(difference**3)) / max(variance, 1e-9) ** 1.5
        lopsided = max(lopsided, skewness, key=abs)
    if abs(lopsided) > 1.2:
        return lopsided > 0
    return bool(np.median(_border(grey)) < (grey.min() + grey.max()) / 2)


def _choose(ink: Grey, stroke: Mask) -> Mask:
    """The part of `stroke` that is the digit: the heaviest region and its detached pieces, not what runs
    along the border.
    """
    labels, count = label_regions(dilate(stroke, _join(max(ink.shape))))
    mass = np.bincount(labels.ravel(), (ink * stroke).ravel(), count + 1)
    border = _border(labels)
    contact = np.bincount(border, minlength=count + 1) / border.size
    # A tight crop touches the border here and there; a table, a shadow or a frame lies along it.
    score = mass * np.where(contact == 0, 1, np.where(contact < 0.1, 0.3, 0.001))
    score[0] = 0
    best = int(score.argmax())
    digit: Mask = stroke & (labels == best)
    box = _bounds(digit)
    size = max(box[1] - box[0], box[3] - box[2])
    for other in np.nonzero((mass > 0.05 * mass[best]) & ((contact == 0) | (contact[best] > 0)))[0]:
        if other in (0, best):
            continue
        piece = stroke & (labels == other)
        top, bottom, left, right = _bounds(piece)
        if max(top - box[1], box[0] - bottom, left - box[3], box[2] - right) < 0.25 * size:
            digit |= piece
    return digit


def _draw(ink: Grey) -> Grey:
    """Scale ink into the 20x20 box, give it MNIST's stroke width, and centre it by mass in the 28x28
    field.
    """
    # else it comes from MNIST or a like source: leave its pixels alone
    redrawn = abs(max(ink.shape) - BOX) > 2
    if redrawn:
        ink = _scale(ink)
    height, width = ink.shape
    mass = float(ink.sum())
    top = round(FIELD / 2 - float(ink.sum(1) @ np.arange(height)) / mass)
    left = round(FIELD / 2 - float(ink.sum(0) @ np.arange(width)) / mass)
    top, left = min(max(top, 0), FIELD - height), min(max(left, 0), FIELD - width)
    field = np.zeros((FIELD, FIELD), np.float32)
    field[top : top + height, left : left + width] = ink
    return _smooth(field, _SOFTENING) if redrawn else field


def _scale(ink: Grey) -> Grey:
    shrinks = max(ink.shape) > BOX * _FINE
    ink = _fit(ink, BOX * _FINE, Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC)
    if shrinks:  # thin strokes turn pale when they shrink
        if not (ink > 0.05).any():
            raise NoInkError("there are only specks")
        ink = ink / np.percentile(ink[ink > 0.05], 80)
    ink = np.pad(np.clip(ink, 0, 1), 2 * _FINE)
    for _ in range(3):  # the blurred remains of a thin stroke look wider than they are
        width = _stroke_width(ink) / _FINE
        if width < _THINNEST:
            ink = spread(ink, max(1, round((_THINNEST - width) * _FINE / 2)), np.maximum)
        elif width > _THICKEST:
            ink = spread(ink, max(1, round((width - _THICKEST) * _FINE / 2)), np.minimum)
        else:
            break
    inside = ink > 0.3
    if not inside.any():
        raise NoInkError("there are only specks")
    top, bottom, left, right = _bounds(inside)
    return _fit(ink[top:bottom, left:right], BOX, Image.Resampling.BOX)


def _fit(ink: Grey, side: int, method: Image.Resampling) -> Grey:
    scale = side / max(ink.shape)
    return resize(ink, max(1, round(ink.shape[0] * scale)), max(1, round(ink.shape[1] * scale)), method)


def _stroke_width(ink: Grey) -> float:
    """Mean stroke width in pixels: a stroke of width w and length l has area w l and an outline of 2 l."""
    return float(2 * ink.sum() / max(float(gradient(ink).sum()), 1e-6))


def _edge_width(ink: Grey, digit: Mask, full: float) -> float:
    """How many pixels the ink takes to rise from nothing to `full` at the digit's outline: few for strokes,
    many for shading.
    """
    radius = max(1, max(ink.shape) // 100)  # else the slope of noise passes for an edge
    soft = box_mean(box_mean(ink, radius), radius)
    outline = (digit & ~erode(digit, 1))[1:-1, 1:-1]
    slope = np.hypot(soft[2:, 1:-1] - soft[:-2, 1:-1], soft[1:-1, 2:] - soft[1:-1, :-2]) / 2
    return full / max(float(slope[outline].mean()), 1e-6) if outline.any() else float("inf")


def _noise(grey: Grey) -> float:
    """The noise's standard deviation, from the difference of two Laplacians (Immerkaer, 1996), by median
    instead of mean.
    """
    rows = grey[:-2] - 2 * grey[1:-1] + grey[2:]
    both = rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:]
    return float(np.median(np.abs(both))) / (6 * 0.67)


def _smooth(grey: Grey, share: float) -> Grey:
    """Give each neighbour that share, by rows and columns: a blur of sqrt(2 share) pixels."""
    padded = np.pad(grey, 1, mode="edge")
    rows = share * (padded[:-2] + padded[2:]) + (1 - 2 * share) * padded[1:-1]
    return np.asarray(share * (rows[:, :-2] + rows[:, 2:]) + (1 - 2 * share) * rows[:, 1:-1], np.float32)


def _join(side: int) -> int:
    """How far apart, in pixels, parts of a stroke may lie to count as one."""
    return max(1, round(0.006 * side))


def _border(image: NDArray[_Number]) -> NDArray[_Number]:
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])


def _bounds(mask: Mask) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of the set pixels; bottom and right are exclusive."""
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
