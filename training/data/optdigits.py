"""Optdigits: real handwritten digits of 8 × 8 pixels, bundled with scikit-learn, so nothing is downloaded.

These are the 1,797 images of the UCI set's *test* file (Alpaydin and Kaynak, 1998). They are split here into
train, validation and test, stratified and fixed, without regard to the writers: an accuracy on them is not
comparable with one measured on the UCI set's own split.
"""

import hashlib
from pathlib import Path

import numpy as np

from training.data.splits import Digits, Split, hold_out

NAME = "optdigits"
SCALE = 16
TEST_COUNT = 300
VALIDATION_COUNT = 200
SPLIT_SEED = 64


def load_optdigits(split: Split, _root: Path) -> Digits:
    """Load a split: 1,297 images to train on, 200 to validate on, 300 to test on.

    Args:
        split: which part.
        _root: the data directory; unused, because the images come with scikit-learn.

    Returns:
        Images uint8 [N, 8, 8], 0 to 16. The checksums are of the whole set's images and labels, as uint8 in
        C order.
    """
    # Imported here because it takes a second and only this data set needs it.
    from sklearn.datasets import load_digits

    bundle = load_digits()
    images = bundle.images.astype(np.uint8)
    labels = bundle.target.astype(np.int64)
    rest, test = hold_out(labels, TEST_COUNT, SPLIT_SEED)
    train, validation = hold_out(labels[rest], VALIDATION_COUNT, SPLIT_SEED)
    members = {"train": rest[train], "validation": rest[validation], "test": test}[split]
    return Digits(
        dataset=NAME,
        split=split,
        images=images[members],
        labels=labels[members],
        scale=SCALE,
        checksums={
            "images": hashlib.sha256(images.tobytes()).hexdigest(),
            "labels": hashlib.sha256(labels.astype(np.uint8).tobytes()).hexdigest(),
        },
    )
