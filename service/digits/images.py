"""Decode an image file from a client: bytes -> luminance, whatever the colour mode, safely.

PNG, JPEG, WebP, GIF (first frame) and BMP. Everything else, and everything broken, ends in one of the errors
below.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from service.digits.morphology import Grey

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
LONGEST_SIDE = 512  # pixels; a picture of one digit needs no more, and the work on it stays bounded

# Pillow only warns of headers that announce between 1 and 2 times its own limit; treat them as errors too.
warnings.simplefilter("error", Image.DecompressionBombWarning)
# Its other warnings tell of oddities in a client's file, such as a damaged EXIF block: nothing for the log.
warnings.filterwarnings("ignore", category=UserWarning, module="PIL")


_TURNS = {  # EXIF orientation -> what sets the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableImageError(ValueError):
    """The bytes are not an image of a known format, or the file is truncated or damaged."""


class ImageTooLargeError(ValueError):
    """The image's header announces more pixels than allowed; nothing was decoded."""


def decode(data: bytes, max_pixels: int) -> Grey:
    """Decode an image file to luminance.

    Args:
        data: the file's bytes.
        max_pixels: refuse images of more pixels than this, going by the header.

    Returns:
        [height, width] in [0, 1], upright by its EXIF orientation, shrunk so that no side exceeds 512 pixels.
        Transparent parts show a ground that sets off what is drawn.

    Raises:
        UnreadableImageError, ImageTooLargeError
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise ImageTooLargeError(f"the image has {image.width} x {image.height} pixels")
            return _luminance(image)
    except ImageTooLargeError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError("the image's header announces far too many pixels") from error
    except UnidentifiedImageError as error:
        raise UnreadableImageError("the bytes are not an image in a known format") from error
    except Exception as error:  # Pillow's decoders raise a dozen unrelated types on damaged files
        raise UnreadableImageError(f"the image file is damaged ({type(error).__name__}: {error})") from error


def _luminance(image: Image.Image) -> Grey:
    image.draft("L", (LONGEST_SIDE, LONGEST_SIDE))  # JPEG only: decode no finer than needed, and no colour
    image.load()
    turn = _orientation(image)
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip to 8 bits instead of scaling it
        image = Image.fromarray(np.asarray(image, np.float32) / 257)
    elif image.mode not in ("L", "RGB", "RGBA") or image.has_transparency_data:
        image = image.convert(
            "RGBA" if image.has_transparency_data else "RGB"
        )  # CMYK has no way to L but RGB
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.BOX)
    if turn is not None:
        image = image.transpose(turn)
    if image.mode != "RGBA":
        return _floats(image if image.mode == "F" else image.convert("L"))
    return _set_off(_floats(image.convert("L")), _floats(image.getchannel("A")))


def _floats(image: Image.Image) -> Grey:
    return np.asarray(image, np.float32) / np.float32(255)


def _orientation(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged EXIF block is no reason to refuse the picture
        return None


def _set_off(grey: Grey, alpha: Grey) -> Grey:
    """Lay a partly transparent picture on a ground that sets it off.

    A sticker (opaque, with transparent corners) brings its own ground, which goes on in the transparent part.
    What is only drawn on a transparent canvas is ink: dark ink gets a white ground, light ink a black one.
    """
    opaque = alpha > 0.5
    if not opaque.any():
        return np.zeros_like(grey)
    shown = grey[opaque]
    rows, columns = np.nonzero(opaque.any(1))[0], np.nonzero(opaque.any(0))[0]
    filled = opaque.sum() / ((rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1))
    sticker = filled > 0.7 and shown.std() > 0.1  # a circle fills 0.79 of its box, a digit's strokes far less
    ground: np.floating | float = np.median(shown) if sticker else float(shown.mean() < 0.5)
    return np.asarray(grey * alpha + ground * (1 - alpha), np.float32)
