"""What runs together, and that everybody gets their own rows back: without threads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exports.card import Card
from service.engine.batching import InvalidTensorsError, Layout, Piece, Request
from service.engine.store import Model, load_model
from service.engine.tuning import Pace
from tests.service.engine.fakes import sums


@pytest.fixture(scope="module")
def digits(small_store: Path) -> Layout:
    return Layout(load_model(small_store / "digits" / "1"), 32)


@pytest.fixture(scope="module")
def frames(small_store: Path) -> Layout:
    return Layout(load_model(small_store / "frames" / "1"), 32)


def whole(*requests: Request) -> list[Piece]:
    return [Piece(request, 0, request.rows) for request in requests]


def run(layout: Layout, pieces: list[Piece]) -> list[dict[str, np.ndarray]]:
    return layout.split(pieces, layout.model.run(layout.stack(pieces), layout.fetches(pieces)))


def test_everybody_gets_their_own_rows(digits: Layout) -> None:
    outputs = ["h_next", "trace"]
    requests = [
        sums(digits, 1, 2, outputs=outputs),
        sums(digits, 3, size=7, outputs=outputs),
        sums(digits, 4, 5, 6, outputs=outputs),
    ]
    first, second, third = run(digits, whole(*requests))
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
    for request, answer in zip(requests, run(frames, whole(*requests)), strict=True):
        (alone,) = run(frames, whole(request))
        for name in ("frames", "pending_next", "total_next"):
            np.testing.assert_array_equal(answer[name], alone[name])
        assert answer["probabilities"].shape == alone["probabilities"].shape
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


def test_states_may_be_given_or_not(digits: Layout) -> None:
    fresh, carried = sums(digits, 1), sums(digits, 2, h=np.full((1, 1), 5, np.float32))
    assert fresh.key == carried.key
    assert [answer["h_next"].item() for answer in run(digits, whole(fresh, carried, fresh))] == [1, 7, 1]


def test_everybody_gets_what_they_asked_for(digits: Layout) -> None:
    first, second = sums(digits, 1), sums(digits, 2, outputs=["probabilities"])
    assert first.key == second.key
    assert [set(answer) for answer in run(digits, whole(first, second))] == [{"h_next"}, {"probabilities"}]


def test_what_differs_does_not_run_together(digits: Layout, frames: Layout) -> None:
    waveform = {"waveform": np.zeros((1, 4), np.float32), "lengths": np.array([4], np.int32)}
    keys = [
        sums(digits, 1).key,
        sums(digits, 1, outputs=["trace"]).key,  # as long as its input: only where it is asked for
        sums(digits, 1, size=9).key,
        Request(frames, waveform, ["frames"], lambda _: None).key,
    ]
    assert len(set(keys)) == len(keys)


def test_a_request_can_run_in_pieces(digits: Layout) -> None:
    request = sums(digits, 1, 2, 3, 4, 5, outputs=["h_next", "trace"], h=np.ones((5, 1), np.float32))
    pieces = [Piece(request, 0, 2), Piece(request, 2, 3), Piece(request, 3, 5)]
    other = whole(sums(digits, 9, size=7, outputs=["h_next", "trace"]))
    (first,) = run(digits, pieces[:1])
    _, second, third = run(digits, [*other, *pieces[1:]])
    joined = digits.join([first, second, third])
    (alone,) = run(digits, whole(request))
    for name in alone:
        np.testing.assert_array_equal(joined[name], alone[name])


def test_pieces_with_different_numbers_of_frames_are_joined(frames: Layout) -> None:
    rng = np.random.default_rng(0)
    inputs = {
        "waveform": rng.uniform(-1, 1, (3, 400)).astype(np.float32),
        "lengths": np.array([90, 400, 0], np.int32),
    }
    request = Request(frames, inputs, ["probabilities", "frames"], lambda _: None)
    parts = [run(frames, [Piece(request, row, row + 1)])[0] for row in range(3)]
    assert [part["probabilities"].shape[1] for part in parts] == [1, 5, 0]
    joined = frames.join(parts)
    assert joined["frames"].tolist() == [1, 5, 0]
    assert joined["probabilities"].shape[:2] == (3, 5)
    (alone,) = run(frames, whole(request))
    for row, count in enumerate(joined["frames"]):
        np.testing.assert_array_equal(
            joined["probabilities"][row, :count], alone["probabilities"][row, :count]
        )


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
    layout = Layout(Model(Card.model_validate(card), digits.model.session), 32)
    assert layout.ragged is None
    assert sums(layout, 1, size=720).key == sums(layout, 1, 2, size=720).key
    assert sums(layout, 1, size=720).key != sums(layout, 1, size=721).key


PIXELS = np.zeros((2, 3), np.float32)
LENGTHS = np.full(2, 3, np.int32)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"input 'pixels' is missing; digits needs float32 \[batch, time\]"),
        ({"pixels": PIXELS}, r"input 'lengths' is missing; digits needs int32 \[batch\]"),
        (
            {"pixels": np.float32(1), "lengths": LENGTHS},
            r"input 'pixels' is float32 \[\]; expected float32 \[batch, time\]",
        ),
        (
            {"pixels": PIXELS, "lengths": LENGTHS.astype(np.int64)},
            r"input 'lengths' is int64 \[2\]; expected int32 \[batch\]",
        ),
        (
            {"pixels": PIXELS, "lengths": LENGTHS[:1]},
            "input 'lengths' has 1 rows; expected 2, as 'pixels' has",
        ),
        ({"pixels": PIXELS, "lengths": LENGTHS + 1}, "lengths has 4; expected 0 to 3, the size of 'pixels'"),
        ({"pixels": PIXELS, "lengths": -LENGTHS}, "lengths has -3; expected 0 to 3"),
        (
            {"pixels": PIXELS, "lengths": LENGTHS, "h": np.zeros((2, 2), np.float32)},
            r"input 'h' is float32 \[2, 2\]; expected float32 \[batch, 1\]",
        ),
        (
            {"pixels": PIXELS, "lengths": LENGTHS, "h": np.zeros((1, 1), np.float32)},
            "input 'h' has 1 rows; expected 2",
        ),
        (
            {"pixels": PIXELS, "lengths": LENGTHS, "x": PIXELS},
            "there is no input 'x'; digits has pixels, lengths, h",
        ),
        ({"pixels": PIXELS[:0], "lengths": LENGTHS[:0]}, "the inputs have no rows"),
    ],
)
def test_inputs_are_the_models(digits: Layout, inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidTensorsError, match=message):
        Request(digits, inputs, ["h_next"], lambda _: None)


def test_outputs_are_the_models(digits: Layout) -> None:
    with pytest.raises(InvalidTensorsError, match="there is no output 'x'; digits has h_next, probabilities"):
        sums(digits, 1, outputs=["x"])


def test_pace_of_sizes_that_were_not_measured(digits: Layout) -> None:
    layout = Layout(Model(digits.model.card, digits.model.session, (Pace(8, 4, 0.1), Pace(64, 2, 0.8))), 3)
    assert [layout.rows(size) for size in (0, 1, 8, 9, 64, 1000)] == [3, 3, 3, 3, 2, 2]
    assert layout.pace(1000).seconds == pytest.approx(0.8 * 1000 / 64)
    layout.learn(64, 1.8)
    assert layout.pace(64).seconds == pytest.approx(0.9)
