"""The examples of docs/extending.md, run from the page: they train, export and stream."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from exports.digits import DigitsSubject, digits_graph
from exports.exactness import measure_exactness
from exports.session import DigitsRunner, Floats
from exports.verification import verify
from models import FILTERS, RECURRENCES, AcceleratedRNN, DigitClassifier, Registry, unroll

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
FILTER, RECURRENCE = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


@pytest.fixture(autouse=True)
def _registries_as_before() -> Iterator[None]:
    registries: tuple[Registry[Any], ...] = (FILTERS, RECURRENCES)
    before = [dict(registry) for registry in registries]
    yield
    for registry, entries in zip(registries, before, strict=True):
        registry._entries.clear()
        registry._entries.update(entries)


def images(size: int) -> Floats:
    """8 of them."""
    return np.random.default_rng(0).random((8, size), np.float32)


def export_and_check(**options: Any) -> None:
    torch.manual_seed(0)
    classifier = DigitClassifier(hidden_size=8, num_layers=2, initialization="torch", **options).eval()
    exported = digits_graph(classifier, "digits", "1")
    assert verify(DigitsSubject(classifier, exported), 100).max_difference <= 1e-5
    runner = DigitsRunner(exported.model.SerializeToString(), exported)
    assert measure_exactness(runner, images(100)).streamed == "bitwise"


def test_the_filter_is_about_fifteen_lines_and_complete() -> None:
    assert len([line for line in FILTER.splitlines() if line.strip()]) <= 15
    names: dict[str, Any] = {}
    exec(FILTER, names)
    assert names["y"].shape == (20, 4, 8)
    assert names["m"].shape == (1, 4, 32)
    for recurrence in RECURRENCES:
        layer = AcceleratedRNN("lion", recurrence, 3, 6, dtype=torch.float64)
        x = torch.randn(20, 4, 3, dtype=torch.float64)
        torch.testing.assert_close(layer(x)[0], torch.stack(unroll(layer, x)))
        first, state = layer(x[:7])
        torch.testing.assert_close(torch.cat([first, layer(x[7:], state)[0]]), layer(x)[0])
    layer(x)[0].sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    export_and_check(filter="lion")


def test_the_recurrence_is_complete() -> None:
    names: dict[str, Any] = {}
    exec(RECURRENCE, names)
    assert names["y"].shape == (20, 4, 8)
    layer = AcceleratedRNN("adam", "mgu", 3, 6, bias=False, num_layers=2)
    layer(torch.randn(20, 4, 3))[0].sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in layer.parameters())
    export_and_check(recurrence="mgu", filter="adam", bias=False)
