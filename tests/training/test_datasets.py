"""``training.data.load``: the published data, found where users put it, in splits that never change."""

import gzip
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from training.data import DATASETS, DataError, Digits, DownloadError, Split, data_directory, load, mnist
from training.data.content import md5_of, read_content
from training.data.splits import hold_out

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def fingerprint(digits: Digits) -> str:
    return hashlib.sha256(digits.images.tobytes() + digits.labels.tobytes()).hexdigest()[:16]


# --- the registry


def test_unknown_data_set_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'minst'; known: mnist, optdigits"):
        load("minst", "train", tmp_path)


def test_unknown_split_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'valid'; known: train, validation, test"):
        load("optdigits", "valid", tmp_path)  # type: ignore[arg-type]


def test_a_data_set_plugs_in_by_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_two(split: Split, _root: Path) -> Digits:
        return Digits("two", split, np.zeros((2, 3, 3), np.uint8), np.arange(2), 1, {})

    monkeypatch.setitem(DATASETS, "two", load_two)
    assert len(load("two", "test", tmp_path)) == 2


def test_data_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MOMENTUM_DATA", raising=False)
    assert data_directory() == tmp_path / ".cache" / "momentum-serve"
    monkeypatch.setenv("MOMENTUM_DATA", "")
    assert data_directory() == tmp_path / ".cache" / "momentum-serve"
    monkeypatch.setenv("MOMENTUM_DATA", "~/data")
    assert data_directory() == tmp_path / "data"
    assert data_directory(Path("elsewhere")) == Path("elsewhere")


def test_the_data_layer_needs_no_torch() -> None:
    script = "import sys, training.data; print(*sorted(sys.modules))"
    python_path = os.pathsep.join(sys.path)
    result = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": python_path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "training.data.mnist" in result.stdout.split()
    assert not {"torch", "lightning", "rich", "sklearn"} & set(result.stdout.split())


# --- splits

labels_and_count = hnp.arrays(np.int64, st.integers(1, 200), elements=st.integers(0, 9)).flatmap(
    lambda labels: st.tuples(st.just(labels), st.integers(1, len(labels)))
)


@given(labels_and_count, st.integers(0, 2**32))
def test_hold_out_partitions_and_stratifies(drawn: tuple[npt.NDArray[np.int64], int], seed: int) -> None:
    labels, count = drawn
    kept, held_out = hold_out(labels, count, seed)
    assert len(held_out) == count
    assert np.sort(np.concatenate([kept, held_out])).tolist() == list(range(len(labels)))
    assert np.all(np.diff(kept) > 0)
    assert np.all(np.diff(held_out) > 0)
    share = np.bincount(labels, minlength=10) * count / len(labels)
    assert np.all(np.abs(np.bincount(labels[held_out], minlength=10) - share) < 1)


def test_hold_out_depends_on_the_seed() -> None:
    labels = np.arange(1_000) % 10
    first, again, other = (hold_out(labels, 100, seed)[1].tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_hold_out_never_changes() -> None:
    assert hold_out(np.arange(20) % 2, 6, 0)[1].tolist() == [2, 4, 6, 11, 15, 17]


# --- optdigits


@pytest.mark.parametrize(
    ("split", "count", "expected"),
    [
        ("train", 1_297, "800d3917d699862a"),
        ("validation", 200, "c2ea9d7f92d05f0c"),
        ("test", 300, "81fb53b81b7fe381"),
    ],
)
def test_optdigits(split: Split, count: int, expected: str, tmp_path: Path) -> None:
    digits = load("optdigits", split, tmp_path)
    assert (digits.dataset, digits.split, digits.scale) == ("optdigits", split, 16)
    assert digits.images.shape == (count, 8, 8)
    assert digits.images.dtype == np.uint8
    assert digits.images.max() == 16
    assert digits.labels.shape == (count,)
    assert digits.labels.dtype == np.int64
    assert np.bincount(digits.labels).min() >= 0.95 * count / 10
    assert fingerprint(digits) == expected
    assert digits.checksums == {
        "images": "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3",
        "labels": "8ba4f891220f5e4c9c819638d1602d74b83618f167043c6da52a2a247841ddf0",
    }


def test_optdigits_splits_share_no_image(tmp_path: Path) -> None:
    images = [image.tobytes() for split in SPLITS for image in load("optdigits", split, tmp_path).images]
    assert len(set(images)) == len(images) == 1_797


def test_pixels(tmp_path: Path) -> None:
    digits = load("optdigits", "test", tmp_path)
    one, some, chosen = digits.pixels(3), digits.pixels(slice(5)), digits.pixels(np.array([3, 1]))
    assert one.shape == (8, 8)
    assert some.shape == (5, 8, 8)
    assert chosen.shape == (2, 8, 8)
    assert one.dtype == some.dtype == np.float32
    np.testing.assert_array_equal(one, chosen[0])
    np.testing.assert_array_equal(one * 16, digits.images[3])
    everything = digits.pixels(slice(None))
    assert (everything.min(), everything.max()) == (0, 1)


# --- mnist, in miniature: 60 + 20 images of 2 x 2 pixels, and no mirror


def idx_bytes(array: npt.NDArray[np.uint8]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.fixture
def miniature(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The four files' content by name, which the loader then takes for the published one."""
    files = {}
    for prefix, count in (("train", 60), ("t10k", 20)):
        numbers = np.arange(count, dtype=np.uint8)
        files[f"{prefix}-images-idx3-ubyte"] = idx_bytes(np.tile(numbers[:, None, None], (1, 2, 2)))
        files[f"{prefix}-labels-idx1-ubyte"] = idx_bytes(numbers % 10)
    md5s = {name: md5_of(content) for name, content in files.items()}
    monkeypatch.setattr(mnist, "FILES", md5s)
    monkeypatch.setattr(mnist, "VALIDATION_COUNT", 10)

    def refuse(urls: list[str], _destination: Path, *, md5: str) -> None:
        assert md5 in md5s.values()
        raise DownloadError("\n".join(f"  {url}: Network is unreachable" for url in urls))

    monkeypatch.setattr(mnist, "download", refuse)
    return files


@pytest.mark.parametrize("folder", [".", "mnist"])
@pytest.mark.parametrize("compressed", [True, False])
def test_mnist_is_found(miniature: dict[str, bytes], tmp_path: Path, folder: str, compressed: bool) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    for name, content in miniature.items():
        path = tmp_path / folder / (f"{name}.gz" if compressed else name)
        path.write_bytes(gzip.compress(content) if compressed else content)
    splits = {split: load("mnist", split, tmp_path) for split in SPLITS}
    assert {split: len(digits) for split, digits in splits.items()} == {
        "train": 50,
        "validation": 10,
        "test": 20,
    }
    for digits in splits.values():
        np.testing.assert_array_equal(digits.images[:, 1, 1] % 10, digits.labels)
    together = np.concatenate([splits["train"].images, splits["validation"].images])
    assert np.sort(together[:, 0, 0]).tolist() == list(range(60))
    name = "t10k-labels-idx1-ubyte"
    assert splits["test"].checksums[name] == hashlib.sha256(miniature[name]).hexdigest()


def test_mnist_downloads_what_the_split_needs(
    miniature: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []

    def deliver(urls: list[str], destination: Path, *, md5: str) -> None:
        name = destination.name.removesuffix(".gz")
        assert urls == [f"{mirror}{destination.name}" for mirror in mnist.MIRRORS]
        assert md5 == mnist.FILES[name]
        destination.parent.mkdir(exist_ok=True)
        destination.write_bytes(gzip.compress(miniature[name]))
        fetched.append(destination)

    monkeypatch.setattr(mnist, "download", deliver)
    load("mnist", "test", tmp_path)
    load("mnist", "test", tmp_path)
    assert fetched == [
        tmp_path / "mnist" / f"{name}.gz" for name in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    ]


def test_mnist_offline_says_what_to_put_where(miniature: dict[str, bytes], tmp_path: Path) -> None:
    present = "train-labels-idx1-ubyte"
    (tmp_path / present).write_bytes(miniature[present])
    with pytest.raises(DataError) as raised:
        load("mnist", "train", tmp_path)
    message = str(raised.value)
    assert f"put them into {tmp_path / 'mnist'}, as they are or decompressed" in message
    for name in miniature:
        assert (f"\n  {name}.gz\n" in message) is (name != present)
    for mirror in mnist.MIRRORS:
        assert f"{mirror}train-images-idx3-ubyte.gz: Network is unreachable" in message
    assert "MOMENTUM_DATA" in message


@pytest.mark.usefixtures("miniature")
def test_mnist_directory_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_urls: list[str], destination: Path, *, md5: str) -> None:  # noqa: ARG001 (download's signature)
        raise PermissionError(13, "Permission denied", str(destination.parent))

    monkeypatch.setattr(mnist, "download", fail)
    with pytest.raises(DataError, match=r"Permission denied: .*\n.*put them into"):
        load("mnist", "test", tmp_path)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda content: content[:-1] + b"\5", "content with MD5 .*, expected .*"),
        (lambda content: gzip.compress(content)[:-9], "a damaged gzip stream .*"),
    ],
)
def test_mnist_file_with_other_content_is_refused_and_kept(
    miniature: dict[str, bytes], tmp_path: Path, damage: Callable[[bytes], bytes], found: str
) -> None:
    for name, content in miniature.items():
        (tmp_path / name).write_bytes(content)
    altered = tmp_path / "t10k-labels-idx1-ubyte"
    altered.write_bytes(damage(miniature[altered.name]))
    with pytest.raises(DataError, match=rf"{altered}: found {found}\. Replace the file, or remove it"):
        load("mnist", "test", tmp_path)
    assert altered.exists()
    load("mnist", "train", tmp_path)


# --- mnist, the real one


def test_published_mnist_checksums(shared_datasets: Path) -> None:
    found = {name: md5_of(read_content(shared_datasets / "mnist" / f"{name}.gz")) for name in mnist.FILES}
    assert found == {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }


@pytest.mark.parametrize(
    ("split", "counts", "expected"),
    [
        ("train", [5429, 6180, 5462, 5620, 5355, 4969, 5425, 5743, 5363, 5454], "f9842fb7cba5012a"),
        ("validation", [494, 562, 496, 511, 487, 452, 493, 522, 488, 495], "33505d1af8a3aa4c"),
        ("test", [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009], "a0863a96c44e5666"),
    ],
)
def test_published_mnist(split: Split, counts: list[int], expected: str, shared_datasets: Path) -> None:
    digits = load("mnist", split, shared_datasets)
    assert (digits.dataset, digits.split, digits.scale) == ("mnist", split, 255)
    assert digits.images.shape == (sum(counts), 28, 28)
    assert digits.images.dtype == np.uint8
    assert digits.labels.dtype == np.int64
    assert digits.images.max() == 255
    assert np.bincount(digits.labels).tolist() == counts
    assert fingerprint(digits) == expected
