"""MNIST: 70,000 handwritten digits of 28 × 28 pixels (LeCun, Cortes and Burges, 1998).

Of the 60,000 training images 5,000 are held out for validation, stratified and fixed; the test split is the
published one of 10,000.
"""

import hashlib
from pathlib import Path

import numpy as np

from training.data.content import md5_of, read_content
from training.data.download import DownloadError, download
from training.data.errors import DataError
from training.data.idx import parse_idx
from training.data.splits import Digits, Split, hold_out

NAME = "mnist"
SCALE = 255
VALIDATION_COUNT = 5_000
SPLIT_SEED = 28

# MD5 of the uncompressed content: the mirrors' gzip wrappers differ.
FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


def load_mnist(split: Split, root: Path) -> Digits:
    """Load a split: 55,000 images to train on, 5,000 to validate on, 10,000 to test on.

    Files are looked for in ``root/mnist`` and in ``root``, gzip or plain; what the split needs and neither
    holds is downloaded to ``root/mnist``.

    Args:
        split: which part.
        root: the data directory.

    Returns:
        Images uint8 [N, 28, 28], 0 to 255.

    Raises:
        DataError: a file is not the published one, or is absent and cannot be downloaded.
        OSError: a file that is there cannot be read.
    """
    prefix = "t10k" if split == "test" else "train"
    sources = {
        name: _read(name, root) for name in (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
    }
    images, labels = (parse_idx(content, Path(name)) for name, content in sources.items())
    labels = labels.astype(np.int64)
    if split != "test":
        train, validation = hold_out(labels, VALIDATION_COUNT, SPLIT_SEED)
        members = train if split == "train" else validation
        images, labels = images[members], labels[members]
    return Digits(
        dataset=NAME,
        split=split,
        images=images,
        labels=labels,
        scale=SCALE,
        checksums={name: hashlib.sha256(content).hexdigest() for name, content in sources.items()},
    )


def has_mnist(root: Path) -> bool:
    """Whether ``load_mnist`` would find every file in ``root`` or ``root/mnist`` and download nothing."""
    return all(_find(name, root) is not None for name in FILES)


def _read(name: str, root: Path) -> bytes:
    path = _find(name, root) or _download(name, root)
    remedy = "Replace the file, or remove it to have it downloaded."
    try:
        content = read_content(path)
    except DataError as error:
        raise DataError(f"{error}. {remedy}") from error
    found = md5_of(content)
    if found != FILES[name]:
        expected = f"{FILES[name]} (the original {name} of MNIST)"
        raise DataError(f"{path}: found content with MD5 {found}, expected {expected}. {remedy}")
    return content


def _find(name: str, root: Path) -> Path | None:
    candidates = (folder / file for folder in (root / NAME, root) for file in (name, f"{name}.gz"))
    return next((path for path in candidates if path.is_file()), None)


def _download(name: str, root: Path) -> Path:
    path = root / NAME / f"{name}.gz"
    try:
        download([f"{mirror}{name}.gz" for mirror in MIRRORS], path, md5=FILES[name])
    except (DownloadError, OSError) as error:
        missing = "\n".join(f"  {file}.gz" for file in FILES if _find(file, root) is None)
        raise DataError(
            f"MNIST is not complete in {root}, and downloading failed:\n{error}\n"
            f"Get these files some other way and put them into {root / NAME}, as they are or decompressed "
            f"(then without .gz):\n{missing}\n"
            "Or set --data or MOMENTUM_DATA to a directory that has them."
        ) from error
    return path
