"""Fixtures that tests of several packages use."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Before torch is loaded. The tests share the machine, and threads that spin while they wait take it
# from the rest. What is tested with several threads asks for them; they spin as briefly as in training.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

# Shared machines stall; what is tested is behaviour.
settings.register_profile("project", deadline=None)
settings.load_profile("project")


TESTS = Path(__file__).parent
# what takes longest; two Rays at once starve each other, so the second comes when the first is likely done
LONGEST = (
    "service/ray/test_ray.py",
    "training/test_sweep.py",
    "training/test_distributed.py",
    "training/test_quick_start.py",
    "training/test_fit.py",
    "service/web/test_speech.py",
    "service/batch/test_resume.py",
    "benchmarks/test_serving.py",
    "benchmarks/test_serving_frontend.py",
    "training/test_sweep_ray.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest: no worker should be left with one of them when the others are done."""
    places = {TESTS / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session")
def shared_datasets() -> Path:
    """The directory of full data sets next to the checkout; the test is skipped where there is none."""
    directory = Path(__file__).resolve().parents[2] / "shared" / "datasets"
    if not directory.is_dir():
        pytest.skip(f"needs the full data sets in {directory}")
    return directory


@pytest.fixture(scope="session")
def small_timit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a synthetic corpus: 24 sentences to train on, 16 and 16 held out."""
    from training.data.synthetic_timit import Size, make_synthetic_timit

    root = tmp_path_factory.mktemp("data")
    make_synthetic_timit(root, Size(train=3, validation=2, test=2))
    return root
