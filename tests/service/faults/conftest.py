"""Servers that can be made to fail."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import pytest


@pytest.fixture(scope="session")
def serve_faulty(serve: Any) -> Callable[..., AbstractContextManager[Any]]:
    """As `serve`, but the server's process heeds the signals of `launcher.Fault`."""
    return partial(serve, module="tests.service.faults.launcher")
