"""Pictures become what MNIST would hold of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from service.digits.images import decode
from service.digits.ink import NoInkError, to_mnist
from service.digits.morphology import gradient

Mnist = tuple[np.ndarray, np.ndarray]


def large(image: np.ndarray, times: int) -> np.ndarray:
    """Enlarged smoothly, in [0, 1]."""
    side = image.shape[0] * times
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255


def stroke_width(field: np.ndarray) -> float:
    return float(2 * field.sum() / gradient(field).sum())


def photograph(ink: np.ndarray, rng: np.random.Generator, height: int = 300, width: int = 400) -> np.ndarray:
    """Dark ink on paper in light that falls off to a third, with a shadow across and noise."""
    canvas = np.zeros((height, width), np.float32)
    top, left = (height - ink.shape[0]) // 2, (width - ink.shape[1]) // 2
    canvas[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    y, x = np.mgrid[:height, :width]
    light = 1 / (1 + 2 * x / width) * np.where(x + y / 2 > width * 0.6, 0.6, 1)
    noise = rng.normal(0, 0.01, canvas.shape)
    return ((0.9 - 0.75 * canvas) * light + noise).clip(0, 1).astype(np.float32)


def test_images_of_mnist_come_out_almost_unchanged(mnist: Mnist) -> None:
    images, _ = mnist
    differences = [np.abs(to_mnist(image / np.float32(255)) - image / 255) for image in images]
    assert np.mean(differences) < 0.004
    assert np.mean([difference.max() < 0.1 for difference in differences]) > 0.95


def test_dark_on_light_gives_the_same_as_light_on_dark(mnist: Mnist) -> None:
    for image in mnist[0][::10]:
        picture = large(image, 8)
        np.testing.assert_allclose(to_mnist(1 - picture), to_mnist(picture), atol=0.02)


def test_light_shadow_and_noise_hardly_change_the_result(mnist: Mnist) -> None:
    rng = np.random.default_rng(0)
    differences = []
    for image in mnist[0][::25]:
        clean = to_mnist(1 - large(image, 6))
        differences.append(np.abs(to_mnist(photograph(large(image, 6), rng)) - clean).mean())
    assert np.median(differences) < 0.02
    assert max(differences) < 0.12  # a shift by one pixel


def test_place_and_size_do_not_matter(mnist: Mnist) -> None:
    image = mnist[0][100]
    expected = to_mnist(1 - large(image, 8))
    for times, top, left in ((4, 30, 10), (6, 0, 250), (10, 20, 100)):
        canvas = np.ones((320, 480), np.float32)
        ink = large(image, times)
        canvas[top : top + len(ink), left : left + len(ink)] -= ink
        assert np.abs(to_mnist(canvas) - expected).mean() < 0.03


def test_ink_fills_the_box_and_its_mass_lies_in_the_middle(mnist: Mnist) -> None:
    for image in mnist[0][::20]:
        field = to_mnist(large(image, 8))
        assert field.shape == (28, 28)
        assert field.dtype == np.float32
        assert 0 <= field.min() <= field.max() <= 1
        rows, columns = np.nonzero(field.any(1))[0], np.nonzero(field.any(0))[0]
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == 22  # the box, and the softening's fringe around it
        centre = np.array([field.sum(1) @ np.arange(28), field.sum(0) @ np.arange(28)]) / field.sum()
        np.testing.assert_allclose(centre, 14, atol=0.51)


@pytest.mark.parametrize("pen", [2, 5, 40, 60])
def test_thin_and_thick_strokes_get_the_width_of_mnists(pen: int) -> None:
    y, x = np.mgrid[:400, :400]
    ring = (np.abs(np.hypot(x - 200, y - 200) - 130) < pen / 2).astype(np.float32)
    assert 1.6 < stroke_width(to_mnist(1 - ring)) < 3.8


def test_specks_and_a_frame_along_the_border_are_not_ink(mnist: Mnist) -> None:
    picture = 1 - large(mnist[0][0], 8)
    expected = to_mnist(picture)
    dirty = np.pad(picture, 40, constant_values=1)
    dirty[:, :12] = dirty[:12] = 0.2
    dirty[20:23, 200:203] = dirty[270:273, 60:63] = 0
    np.testing.assert_allclose(to_mnist(dirty), expected, atol=0.15)


def test_a_sheet_on_a_dark_table(mnist: Mnist) -> None:
    sheet = np.full((300, 400), 0.9, np.float32)
    sheet[40:208, 100:268] -= 0.8 * large(mnist[0][350], 6)
    table = np.full((380, 500), 0.15, np.float32)
    table[40:340, 50:450] = sheet
    np.testing.assert_allclose(to_mnist(table), to_mnist(sheet), atol=0.05)


def test_a_board_on_a_light_wall(mnist: Mnist) -> None:
    board = np.full((300, 400), 0.2, np.float32)
    board[40:208, 100:268] += 0.6 * large(mnist[0][350], 6)
    wall = np.full((380, 500), 0.9, np.float32)
    wall[40:340, 50:450] = board
    np.testing.assert_allclose(to_mnist(wall), to_mnist(board), atol=0.05)


def test_a_digit_of_two_pieces_keeps_both() -> None:
    five = np.ones((200, 200), np.float32)
    five[40:55, 70:140] = 0  # the bar, apart from the rest
    five[70:160, 70:85] = five[145:160, 70:140] = 0
    field = to_mnist(five)
    assert field[:6].any()
    assert field[20:].any()


def noisy(level: np.ndarray | float, noise: float) -> np.ndarray:
    rng = np.random.default_rng(1)
    return (
        (np.broadcast_to(level, (240, 320)) + rng.normal(0, noise, (240, 320))).clip(0, 1).astype(np.float32)
    )


ACROSS = np.linspace(0, 1, 320)


@pytest.mark.parametrize(
    "blank",
    [
        np.zeros((28, 28), np.float32),
        np.full((200, 300), 0.7, np.float32),
        noisy(0.7, 0.02),
        noisy(0.5, 0.2),
        noisy(0.9 - 0.6 * ACROSS, 0),
        noisy(0.9 - 0.5 * ACROSS, 0.02),
        noisy(np.where(ACROSS < 0.4, 0.9, 0.5), 0),
        noisy(0.9 - 0.4 / (1 + np.exp(-(ACROSS - 0.5) * 60)), 0.01),
        np.ones((7, 7), np.float32),
        np.eye(8, 2, dtype=np.float32),
    ],
)
def test_pictures_without_strokes_are_refused(blank: np.ndarray) -> None:
    with pytest.raises(NoInkError):
        to_mnist(blank)


@settings(max_examples=150, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=120),
        elements=st.sampled_from([0, 0.25, 0.5, 0.75, 1]),
        fill=st.sampled_from([0, 1]),
    )
)
def test_any_picture_gives_a_field_or_is_refused(grey: np.ndarray) -> None:
    try:
        field = to_mnist(grey)
    except NoInkError:
        return
    assert field.shape == (28, 28)
    assert np.isfinite(field).all()
    assert 0 <= field.min() < field.max() <= 1


def test_two_ways_to_be_transparent_look_the_same(digit_pictures: dict[str, bytes]) -> None:
    dark, light = (
        to_mnist(decode(digit_pictures[f"8-{ink}-on-transparent.png"], 1_000_000))
        for ink in ("dark", "light")
    )
    np.testing.assert_allclose(dark, light, atol=0.05)
