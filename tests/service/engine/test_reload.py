"""Models come and go under an engine that runs them."""

from __future__ import annotations

import asyncio
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from service.engine import Engine
from service.engine.store import Model

Artifact = Callable[..., Path]


def test_a_version_that_is_replaced_is_let_go_at_once(tmp_path: Path, write_artifact: Artifact) -> None:
    """Or a server that is given a new version each day has a year's in memory."""
    inputs = {"pixels": np.ones((1, 4), np.float32), "lengths": np.array([4], np.int32)}
    loaded: list[weakref.ref[Model]] = []

    async def main() -> None:
        folder = write_artifact(tmp_path)
        async with Engine(tmp_path, versions=1) as engine:
            for version in ("2", "3", "4"):
                loaded.append(weakref.ref(engine.model("digits")))
                assert (await engine.infer("digits", inputs, ["h_next"]))["h_next"].tolist() == [[4]]
                former, folder = folder, write_artifact(tmp_path, version=version)
                shutil.rmtree(former)
                await engine.repository.refresh()
                assert engine.model("digits").card.version == version
                assert [model() for model in loaded] == [None] * len(loaded)
                assert [str(entry.state) for entry in engine.repository.index()] == ["READY"]

    asyncio.run(asyncio.wait_for(main(), 60))


def test_who_holds_a_version_that_is_replaced_can_go_on(tmp_path: Path, write_artifact: Artifact) -> None:
    inputs = {"pixels": np.ones((1, 4), np.float32), "lengths": np.array([4], np.int32)}

    async def main() -> None:
        write_artifact(tmp_path)
        async with Engine(tmp_path, versions=1) as engine:
            held = engine.model("digits")
            answer = await engine.infer(held, inputs, ["h_next"])
            write_artifact(tmp_path, version="2")
            await engine.repository.refresh()
            states = {entry.version: str(entry.state) for entry in engine.repository.index()}
            assert states == {"1": "UNLOADING", "2": "READY"}
            onward = await engine.infer(held, {**inputs, "h": answer["h_next"]}, ["h_next"])
            assert onward["h_next"].tolist() == [[8]]

    asyncio.run(asyncio.wait_for(main(), 60))


def test_nothing_is_kept_of_versions_that_were_served_long_ago(
    tmp_path: Path, write_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.engine.repository._KEPT_PACES", 2)

    async def main() -> None:
        folder = write_artifact(tmp_path)
        async with Engine(tmp_path, versions=1) as engine:
            for number in range(2, 7):
                graph = onnx.load(folder / "model.onnx")
                graph.doc_string = str(number)  # another checksum
                shutil.rmtree(folder)
                folder = write_artifact(tmp_path, version=str(number), graph=graph.SerializeToString())
                await engine.repository.refresh()
            assert len(engine.repository._leaving) <= 1
            assert len(engine.repository._paces) <= 2

    asyncio.run(asyncio.wait_for(main(), 60))
