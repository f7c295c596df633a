"""Ways to run a network: on our kernels, or without them."""

from collections.abc import Iterator

import pytest
import torch

from models.kernels.build import KERNELS, BuildError, build


@pytest.fixture(scope="session")
def _kernels_built() -> None:
    try:
        for kernel in KERNELS:
            build(kernel)
    except BuildError as error:
        pytest.skip(f"the CPU kernels cannot be built here: {error}")


@pytest.fixture
def native(_kernels_built: None) -> Iterator[None]:
    """The kernels are there, and share the rows among threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without a compiler."""
    monkeypatch.setattr("models.recurrences.fused.can_run", lambda *_: False)
    monkeypatch.setattr("models.kernels.adam.can_run", lambda *_: False)


@pytest.fixture(params=["native", "without_kernels"])
def either_way(request: pytest.FixtureRequest) -> str:
    """Both."""
    way: str = request.param
    request.getfixturevalue(way)
    return way
