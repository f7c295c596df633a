"""Every format and colour mode is decoded, and nothing hostile gets past a typed error."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from service.digits.images import ImageTooLargeError, UnreadableImageError, decode
from service.digits.ink import NoInkError, to_mnist

LIMIT = 1_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def seven(width: int = 120, height: int = 160) -> Image.Image:
    """A black seven on white, "L"."""
    y, x = np.mgrid[:160, :120]
    bar = (y > 30) & (y < 42) & (x > 30) & (x < 90)
    stem = (np.abs(x - 84 + (y - 36) * 0.3) < 6) & (y > 30) & (y < 130)
    return Image.fromarray(np.where(bar | stem, 0, 255).astype(np.uint8)).resize((width, height))


def assert_alike(one: np.ndarray, other: np.ndarray) -> None:
    assert np.abs(one - other).mean() < 0.03


UPRIGHT = np.asarray(seven(), np.float32) / 255


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        *((mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
        *((mode, "JPEG") for mode in ("L", "RGB", "CMYK")),
        *((mode, "WEBP") for mode in ("L", "RGB", "RGBA")),
        *((mode, "GIF") for mode in ("1", "L", "P", "RGB")),
        *((mode, "BMP") for mode in ("1", "L", "P", "RGB")),
    ],
)
def test_every_colour_mode_shows_the_same_picture(mode: str, kind: str) -> None:
    picture = seven()
    if mode == "I;16":
        converted = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    else:
        converted = picture.convert(mode)
    grey = decode(encode(converted, kind), LIMIT)
    assert grey.shape == (160, 120)
    assert grey.dtype == np.float32
    assert_alike(grey, UPRIGHT)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("level", [0, 60, 200, 255])
def test_a_drawing_on_a_transparent_canvas_is_set_off(kind: str, mode: str, level: int) -> None:
    drawing = Image.new("RGBA", (120, 160), (level, level, level, 0))
    drawing.putalpha(seven().point(lambda value: 255 - value))
    grey = decode(
        encode(drawing.convert(mode), kind, **({"lossless": True} if kind == "WEBP" else {})), LIMIT
    )
    assert_alike(to_mnist(grey), to_mnist(UPRIGHT))


def test_a_transparent_palette_colour() -> None:
    picture = Image.fromarray((UPRIGHT > 0.5).astype(np.uint8)).convert("P")
    picture.putpalette([10, 10, 10, 10, 10, 10])
    grey = decode(encode(picture, "GIF", transparency=1), LIMIT)
    assert_alike(to_mnist(grey), to_mnist(UPRIGHT))


def test_a_sticker_keeps_its_own_ground() -> None:
    y, x = np.mgrid[:500, :500]
    disc = Image.fromarray(np.where(np.hypot(x - 250, y - 250) < 95, 255, 0).astype(np.uint8))
    face = Image.new("L", (500, 500), 230)
    face.paste(seven(), (190, 170))
    sticker = Image.merge("LA", (face, disc))
    assert_alike(to_mnist(decode(encode(sticker, "PNG"), LIMIT)), to_mnist(UPRIGHT))


def test_fully_transparent_is_blank() -> None:
    with pytest.raises(NoInkError):
        to_mnist(decode(encode(Image.new("RGBA", (50, 50), (255, 0, 0, 0)), "PNG"), LIMIT))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_sets_the_picture_upright(orientation: int) -> None:
    turns = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],  # stored so that turning it back by 270 degrees is upright
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    stored = seven()
    for turn in turns.get(orientation, []):
        stored = stored.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    grey = decode(encode(stored, "JPEG", exif=exif, quality=95), LIMIT)
    assert_alike(grey, UPRIGHT)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_block_does_not_matter() -> None:
    data = encode(seven(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode(data, LIMIT).shape == (160, 120)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_counts(kind: str) -> None:
    frames = [Image.new("L", (120, 160), 255)] * 3
    lossless = {"lossless": True} if kind == "WEBP" else {}
    data = encode(seven(), kind, save_all=True, append_images=frames, **lossless)
    assert_alike(decode(data, LIMIT), UPRIGHT)


@pytest.mark.parametrize("kind", FORMATS)
def test_large_pictures_shrink_to_512_pixels(kind: str) -> None:
    grey = decode(encode(seven(900, 1000), kind), LIMIT)
    assert max(grey.shape) == 512
    small = np.asarray(seven(900, 1000).resize((grey.shape[1], 512), Image.Resampling.BOX), float) / 255
    assert np.abs(grey - small).mean() < 0.02


@pytest.mark.parametrize("kind", FORMATS)
def test_truncated_files_are_refused(kind: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8))
    data = encode(noise, kind)
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(UnreadableImageError):
            decode(data[: int(len(data) * share)], LIMIT)


@pytest.mark.parametrize("kind", ["TIFF", "ICO", "PPM", "TGA", "PDF"])
def test_other_formats_are_refused(kind: str) -> None:
    with pytest.raises(UnreadableImageError, match="known format"):
        decode(encode(seven().convert("RGB"), kind), LIMIT)


def test_a_header_of_too_many_pixels_is_refused_unread() -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    for width, height in ((1001, 1000), (12_000, 12_000), (2**31 - 1, 2**31 - 1)):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100_000)))
        with pytest.raises((ImageTooLargeError, UnreadableImageError)) as caught:
            decode(bomb, LIMIT)
        if width < 2**31 - 1:
            assert caught.type is ImageTooLargeError


def test_the_limit_itself_is_allowed() -> None:
    assert decode(encode(seven(), "PNG"), 160 * 120).shape == (160, 120)
    with pytest.raises(ImageTooLargeError, match="120 x 160"):
        decode(encode(seven(), "PNG"), 160 * 120 - 1)


HEADS = [b"", *(encode(seven(24, 32), kind) for kind in FORMATS)]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(HEADS), st.data())
def test_garbage_and_damage_end_in_a_typed_error_or_a_picture(head: bytes, data: st.DataObject) -> None:
    damaged = bytearray(head)
    for _ in range(data.draw(st.integers(0, 4))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    body = bytes(damaged[: data.draw(st.integers(0, len(damaged)))]) + data.draw(st.binary(max_size=40))
    try:
        grey = decode(body, LIMIT)
    except (UnreadableImageError, ImageTooLargeError):
        return
    assert grey.ndim == 2
    assert np.isfinite(grey).all()
    assert 0 <= grey.min() <= grey.max() <= 1
