"""The engine without a web server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from service import Engine
from service.engine import UnknownModelError


def request(*sums: float) -> dict[str, np.ndarray]:
    pixels = np.zeros((len(sums), 784), np.float32)
    pixels[:, 300] = sums
    return {"pixels": pixels, "lengths": np.full(len(sums), 784, np.int32)}


def test_infer_answers_what_was_asked(small_store: Path) -> None:
    async def main() -> dict[str, np.ndarray]:
        async with Engine(small_store, lanes=1) as engine:
            return await engine.infer("digits", request(3.0), ["trace", "h_next"])

    answers = asyncio.run(main())
    assert set(answers) == {"trace", "h_next"}
    assert answers["h_next"] == 3
    assert answers["trace"].shape == (1, 784, 10)
    np.testing.assert_allclose(answers["trace"].sum(-1), 1, atol=1e-5)


def test_many_at_once_each_get_their_own_answer(small_store: Path) -> None:
    async def main() -> list[dict[str, np.ndarray]]:
        async with Engine(small_store, lanes=3) as engine:
            return await asyncio.gather(
                *(engine.infer("digits", request(float(number)), ["h_next"]) for number in range(50))
            )

    assert [answer["h_next"].item() for answer in asyncio.run(main())] == list(range(50))


def test_unknown_models_are_named(small_store: Path) -> None:
    async def main() -> None:
        async with Engine(small_store, lanes=1) as engine:
            await engine.infer("letters", request(1.0), ["probabilities"])

    with pytest.raises(UnknownModelError, match="there is no model 'letters'; this server has digits"):
        asyncio.run(main())


def test_a_failing_run_fails_its_own_request_only(small_store: Path) -> None:
    async def main() -> list[object]:
        async with Engine(small_store, lanes=1) as engine:
            wrong = {**request(1.0), "pixels": np.zeros((1, 784), np.float64)}
            return await asyncio.gather(
                engine.infer("digits", wrong, ["h_next"]),
                engine.infer("digits", request(2.0), ["h_next"]),
                return_exceptions=True,
            )

    failed, answered = asyncio.run(main())
    assert isinstance(failed, Exception)
    assert isinstance(answered, dict)
    assert answered["h_next"] == 2


def test_ready_while_it_runs(small_store: Path) -> None:
    engine = Engine(small_store, lanes=1)
    assert not engine.ready

    async def main() -> None:
        async with engine:
            assert engine.ready

    asyncio.run(main())
    assert not engine.ready
