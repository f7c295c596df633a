"""A model that is held while a test looks at the engine."""

from __future__ import annotations

import pytest

from service.engine import Model
from tests.service.engine.asking import Gate
from tests.service.engine.fakes import fake_model


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def gated(gate: Gate) -> Model:
    """A model that runs through the gate, four rows together."""
    return fake_model(4, session=gate)
