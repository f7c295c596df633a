"""What runs together, and that everybody gets their own rows back: without threads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.engine.batching import InvalidTensorsError, Layout, Queue, Request
from service.engine.store import load_model


@pytest.fixture(scope="module")
def digits(small_store: Path) -> Layout:
    return Layout(load_model(small_store / "digits" / "1"))


@pytest.fixture(scope="module")
def frames(small_store: Path) -> Layout:
    return Layout(load_model(small_store / "frames" / "1"))


def sums(layout: Layout, *values: float, size: int = 4, **more: Any) -> Request:
    """A request of a row a value, in which the pixels' sum is the value."""
    pixels = np.zeros((len(values), size), np.float32)
    pixels[:, 0] = values
    inputs = {"pixels": pixels, "lengths": np.full(len(values), size, np.int32), **more}
    return Request(layout, inputs, ["h_next", "trace"], lambda _: None)


def run(layout: Layout, requests: list[Request]) -> list[dict[str, np.ndarray]]:
    return layout.split(requests, layout.model.run(layout.stack(requests), requests[0].outputs))


def test_everybody_gets_their_own_rows(digits: Layout) -> None:
    first, second, third = run(digits, [sums(digits, 1, 2), sums(digits, 3, size=7), sums(digits, 4, 5, 6)])
    assert first["h_next"].tolist() == [[1], [2]]
    assert second["h_next"].tolist() == [[3]]
    assert third["h_next"].tolist() == [[4], [5], [6]]
    assert [answer["trace"].shape for answer in (first, second, third)] == [
        (2, 4, 10),
        (1, 7, 10),
        (3, 4, 10),
    ]


@given(st.data())
def test_waveforms_of_any_size_answer_as_if_alone(frames: Layout, data: st.DataObject) -> None:
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    requests = []
    for rows in draw(st.lists(st.integers(1, 3), min_size=1, max_size=5)):
        size = draw(st.integers(1, 400))
        inputs = {
            "waveform": rng.uniform(-1, 1, (rows, size)).astype(np.float32),
            "lengths": rng.integers(0, size, rows, np.int32, endpoint=True),
            "rest": rng.uniform(-1, 1, (rows, 79)).astype(np.float32),
            "pending": rng.integers(0, 80, rows, np.int32),
            "total": rng.uniform(0, 100, (rows, 1)).astype(np.float32),
        }
        outputs = ["probabilities", "frames", "rest_next", "pending_next", "total_next"]
        requests.append(Request(frames, inputs, outputs, lambda _: None))
    for request, answer in zip(requests, run(frames, requests), strict=True):
        (alone,) = run(frames, [request])
        for name in ("frames", "pending_next", "total_next"):
            np.testing.assert_array_equal(answer[name], alone[name])
        for row, count in enumerate(alone["frames"]):
            np.testing.assert_array_equal(
                answer["probabilities"][row, :count], alone["probabilities"][row, :count]
            )
            kept = alone["pending_next"][row]
            np.testing.assert_array_equal(
                answer["rest_next"][row, 79 - kept :], alone["rest_next"][row, 79 - kept :]
            )


@given(sizes=st.lists(st.integers(1, 5000), min_size=2, max_size=2))
def test_no_row_is_more_than_half_padding(digits: Layout, sizes: list[int]) -> None:
    first, second = (sums(digits, 0.0, size=size) for size in sizes)
    if first.key == second.key:
        assert max(sizes) < 2 * min(sizes) or max(sizes) == min(sizes)


def test_sizes_close_to_each_other_run_together(digits: Layout) -> None:
    assert sums(digits, 1, size=720).key == sums(digits, 1, 2, size=880).key


def test_what_differs_does_not_run_together(digits: Layout, frames: Layout) -> None:
    plain = sums(digits, 1)
    h = np.zeros((1, 1), np.float32)
    others = [
        sums(digits, 1, h=h),
        sums(digits, 1, h=h.astype(np.float64)),
        sums(digits, 1, h=np.zeros((1, 2), np.float32)),
        sums(frames, 1),
        Request(digits, plain.inputs, ["h_next"], lambda _: None),
    ]
    keys = [plain.key, *(other.key for other in others)]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "change",
    [
        lambda card: card["exactness"].update(padded="impossible"),
        lambda card: card.update(
            inputs=[spec for spec in card["inputs"] if spec["name"] != "lengths"],
            states=[
                *card["states"],
                {"name": "lengths", "output": "x", "dtype": "int32", "shape": ["batch"]},
            ],
        ),
    ],
    ids=["padding ruled out", "no lengths"],
)
def test_other_models_are_not_padded(digits: Layout, change: Callable[[dict[str, Any]], object]) -> None:
    card = digits.model.card.model_dump()
    change(card)
    layout = Layout(type(digits.model)(type(digits.model.card).model_validate(card), digits.model.session))
    assert layout.ragged is None
    assert sums(layout, 1, size=720).key == sums(layout, 1, 2, size=720).key
    assert sums(layout, 1, size=720).key != sums(layout, 1, size=721).key


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "there are no inputs"),
        ({"pixels": np.float32(1)}, r"input 'pixels' has the shape \[\]"),
        (
            {"pixels": np.zeros((2, 3)), "lengths": np.zeros(3)},
            r"input 'lengths' has the shape \[3\]; expected the same number of rows as 'pixels' has",
        ),
    ],
)
def test_inputs_have_the_same_rows(digits: Layout, inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidTensorsError, match=message):
        Request(digits, inputs, ["h_next"], lambda _: None)


class FakeLayout:
    ragged = None


MAX_ROWS = 8


class QueueMachine(RuleBasedStateMachine):
    """Requests come, are cancelled and are taken in any order; a list is the model of the queue."""

    def __init__(self) -> None:
        super().__init__()
        self.layouts: list[Any] = [FakeLayout(), FakeLayout(), FakeLayout()]
        self.queue = Queue(MAX_ROWS)
        self.waiting: list[Request] = []

    @rule(model=st.integers(0, 2), rows=st.integers(1, 12), width=st.integers(1, 2))
    def push(self, model: int, rows: int, width: int) -> None:
        request = Request(self.layouts[model], {"x": np.zeros((rows, width))}, ["y"], lambda _: None)
        self.queue.push(request)
        self.waiting.append(request)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.waiting))
        self.queue.remove(request)
        self.queue.remove(request)  # again changes nothing
        self.waiting.remove(request)

    @rule()
    def take(self) -> None:
        taken = self.queue.take()
        assert bool(taken) == bool(self.waiting)
        if not taken:
            return
        alike = [request for request in self.waiting if request.key == self.waiting[0].key]
        assert taken == alike[: len(taken)]  # the oldest of all, and the next oldest like it
        rows = sum(request.rows for request in taken)
        assert rows <= MAX_ROWS or len(taken) == 1
        if len(taken) < len(alike):  # as many as fit
            assert rows + alike[len(taken)].rows > MAX_ROWS
        self.waiting = [request for request in self.waiting if request not in taken]
        for request in taken:
            self.queue.remove(request)  # too late, and harmless

    @rule()
    def clear(self) -> None:
        assert sorted(self.queue.clear(), key=id) == sorted(self.waiting, key=id)
        self.waiting = []

    @invariant()
    def holds_no_empty_group(self) -> None:
        assert all(self.queue._groups.values())
        assert sum(map(len, self.queue._groups.values())) == len(self.waiting)


TestQueue = QueueMachine.TestCase
