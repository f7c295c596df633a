"""However many files there are, few are held."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service.batch import run as running
from service.batch.decoding import Decoded, Decoders, Recipe
from service.batch.files import File, Input
from service.batch.progress import Display
from service.batch.results import Results
from service.batch.run import IMAGES, Run
from service.engine import Engine, Limits
from service.frames import audio
from service.settings import Settings
from tests.service.batch.conftest import rows

RECIPE = Recipe("digits", 2**20, 10**6, audio.Limits(1, 1, 1, (1, 1)), 0, 0)


class Endless(Input):
    """A folder without end."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.listed = 0

    def files(self) -> Iterator[File]:
        for number in itertools.count():
            self.listed = number + 1
            yield File(f"{number}.png", self.path)

    def count(self) -> None:
        return None


def test_files_without_end(
    small_store: Path, digits_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Endless(next(digits_folder.glob("0/*.png")))
    at_most, waiting = 0, 0
    together = asyncio.Event()
    classify = running.classify

    async def counted(engine: Engine, *arguments: object) -> object:
        nonlocal at_most, waiting
        waiting += 1
        at_most = max(at_most, waiting)
        if waiting > 1:
            together.set()
        await asyncio.wait_for(together.wait(), 60)  # the first, for a second that is begun meanwhile
        try:
            return await classify(engine, *arguments)  # type: ignore[arg-type]
        finally:
            waiting -= 1

    monkeypatch.setattr(running, "classify", counted)

    async def scenario(results: Results) -> None:
        engine = Engine(small_store, 1, 16, Limits(10**9, 10**9), device="cpu")
        models = {"digits": engine.model("digits")}
        results.begin(models)
        recipes = {"digits": Recipe.of(models["digits"], Settings())}
        with Decoders(2, 2**20) as decoders, Display() as display:
            async with engine:
                run = Run(engine, models, recipes, None, decoders, results, display, 8, 256)  # type: ignore[arg-type]
                work = asyncio.create_task(run.run(source))
                while display.done < 1500:
                    assert source.listed <= display.done + 8 * IMAGES + 4 * 1024
                    await asyncio.sleep(0.005)
                run.stop()
                assert not await work

    with Results(tmp_path / "out") as results:
        asyncio.run(scenario(results))
    assert 1500 <= len(rows(tmp_path / "out")) == results.done
    assert 1 < at_most <= 8


class Deadly(Recipe):
    """Ends the process for some files, as the system does when memory is short."""

    def decode(self, data: bytes) -> Decoded:
        if data == b"deadly":
            os._exit(9)
        return np.full(1000, len(data), np.float32)


def test_a_file_that_ends_its_process_is_bad_alone(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abcdef"]
    for path in paths:
        path.write_bytes(b"deadly" if path.name == "c" else b"fine")
    recipe = Deadly(**vars(RECIPE))

    async def scenario() -> list[list[Decoded | str]]:
        with Decoders(2, 2**30) as decoders:
            return await asyncio.gather(
                *(decoders.decode(recipe, [*map(str, paths[at : at + 2])]) for at in (0, 2, 4))
            )

    decoded = list(itertools.chain(*asyncio.run(scenario())))
    assert decoded[2] == "the process that decoded it was ended by the system"
    assert [one[0] for index, one in enumerate(decoded) if index != 2] == [4] * 5


def test_decoded_bytes_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"fine")
    recipe = Deadly(**vars(RECIPE))

    async def scenario() -> None:
        with Decoders(1, 4000) as decoders:
            first = await decoders.decode(recipe, [str(tmp_path / "a")])
            second = asyncio.create_task(decoders.decode(recipe, [str(tmp_path / "a")]))
            await asyncio.sleep(0.3)
            assert not second.done()
            await decoders.release(first)
            await asyncio.wait_for(second, 10)

    asyncio.run(scenario())
