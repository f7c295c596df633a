"""The image operations against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.digits.morphology import box_mean, close, dilate, erode, label_regions, resize, spread

shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14)
greys = hnp.arrays(np.float32, shapes, elements=st.floats(0, 1, width=16))


def windows(image: np.ndarray, radius: int, outside: float) -> np.ndarray:
    padded = np.pad(image, radius, constant_values=outside)
    return np.lib.stride_tricks.sliding_window_view(padded, (2 * radius + 1, 2 * radius + 1))


@given(greys, st.integers(0, 5))
def test_dilate_and_erode_take_the_extremes_of_the_window(image: np.ndarray, radius: int) -> None:
    np.testing.assert_array_equal(dilate(image, radius), windows(image, radius, -1).max((2, 3)))
    np.testing.assert_array_equal(erode(image, radius), windows(image, radius, 2).min((2, 3)))


def test_close_fills_a_thin_dark_stroke_and_keeps_a_ramp_and_an_edge() -> None:
    ground = np.tile(np.linspace(0.2, 0.5, 60, dtype=np.float32), (40, 1))
    ground[:, 30:] += 0.3
    drawn = ground.copy()
    drawn[18:22, 5:55] = 0.1
    np.testing.assert_array_equal(close(drawn, 3)[:, 3:], ground[:, 3:])  # the border's minimum is filled


@given(greys, st.integers(1, 5))
def test_box_mean_averages_the_mirrored_window(image: np.ndarray, radius: int) -> None:
    padded = np.pad(image.astype(float), radius, mode="symmetric")
    expected = np.lib.stride_tricks.sliding_window_view(padded, (2 * radius + 1, 2 * radius + 1)).mean((2, 3))
    np.testing.assert_allclose(box_mean(image, radius), expected, atol=1e-6)


def test_spread_draws_a_disc_around_a_point_and_shaves_a_block() -> None:
    point = np.zeros((9, 9), np.float32)
    point[4, 4] = 1
    disc = spread(point, 2, np.maximum)
    y, x = np.mgrid[-4:5, -4:5]
    np.testing.assert_array_equal(disc > 0, np.hypot(y, x) <= 2.3)
    block = np.ones((9, 9), np.float32)
    assert spread(block, 2, np.minimum)[2:-2, 2:-2].all()
    assert spread(block, 2, np.minimum).sum() == 25


def flood_fill(mask: np.ndarray) -> np.ndarray:
    """Regions numbered in reading order, the slow and obvious way."""
    labels = np.zeros(mask.shape, int)
    for start in np.argwhere(mask):
        if labels[tuple(start)]:
            continue
        number = labels.max() + 1
        todo = [tuple(start)]
        while todo:
            y, x = todo.pop()
            if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x] and not labels[y, x]:
                labels[y, x] = number
                todo += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return labels


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20)))
def test_label_regions_equals_flood_fill(mask: np.ndarray) -> None:
    labels, count = label_regions(mask)
    np.testing.assert_array_equal(labels, flood_fill(mask))
    assert count == labels.max(initial=0)


def test_label_regions_follows_a_long_spiral() -> None:
    mask = np.zeros((41, 41), bool)
    y = x = 0
    mask[0, 0] = True
    for leg, length in enumerate([40, 40, 40, *[side for side in range(38, 1, -2) for _ in (0, 1)]]):
        dy, dx = [(0, 1), (1, 0), (0, -1), (-1, 0)][leg % 4]
        for _ in range(length):
            y, x = y + dy, x + dx
            mask[y, x] = True
    labels, count = label_regions(mask)
    assert count == 1
    np.testing.assert_array_equal(labels, mask)


@pytest.mark.parametrize("shape", [(4, 6), (2, 3)])
def test_resize_keeps_the_mean(shape: tuple[int, int]) -> None:
    image = np.arange(96, dtype=np.float32).reshape(8, 12) / 96
    small = resize(image, *shape)
    assert small.shape == shape
    assert small.mean() == pytest.approx(image.mean(), abs=1e-6)
