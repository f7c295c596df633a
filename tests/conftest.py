"""Fixtures that tests of several packages use."""

from pathlib import Path

import pytest
from hypothesis import settings

# Shared machines stall; what is tested is behaviour.
settings.register_profile("project", deadline=None)
settings.load_profile("project")


@pytest.fixture(scope="session")
def shared_datasets() -> Path:
    """The directory of full data sets next to the checkout; the test is skipped where there is none."""
    directory = Path(__file__).resolve().parents[2] / "shared" / "datasets"
    if not directory.is_dir():
        pytest.skip(f"needs the full data sets in {directory}")
    return directory
