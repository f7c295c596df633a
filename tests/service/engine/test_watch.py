"""The store is watched, whatever becomes of it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from service.engine.repository import Repository

Artifact = Callable[..., Path]


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 60))


async def until_served(repository: Repository, *versions: str) -> None:
    while sorted(model.card.version for model in repository.versions) != [*versions]:
        await asyncio.sleep(0.01)


def test_the_store_is_watched(tmp_path: Path, write_artifact: Artifact) -> None:
    store = tmp_path / "store"
    write_artifact(store)
    (store / "loop").symlink_to(store)
    (store / "nowhere").symlink_to(tmp_path / "nowhere")
    (store / "digits" / "itself").symlink_to("itself")
    repository = Repository(store)

    async def scenario() -> None:
        await repository.start()
        write_artifact(tmp_path / "elsewhere", version="2").rename(store / "digits" / "2")
        await until_served(repository, "1", "2")
        shutil.rmtree(store / "digits" / "1")
        await until_served(repository, "2")
        await repository.stop()

    run(scenario)


@pytest.mark.parametrize("trouble", [OSError("no more watches"), RuntimeError("unforeseen")])
def test_a_store_is_looked_at_where_it_cannot_be_watched(
    tmp_path: Path, write_artifact: Artifact, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    def awatch(*_: object, **__: object) -> None:
        raise trouble

    monkeypatch.setattr("service.engine.watch._LOOK_SECONDS", 0.05)
    monkeypatch.setattr("service.engine.watch.awatch", awatch)
    write_artifact(tmp_path)
    repository = Repository(tmp_path)

    async def scenario() -> None:
        await repository.start()
        write_artifact(tmp_path, version="2")
        await until_served(repository, "1", "2")
        await repository.stop()

    run(scenario)


def test_a_store_that_comes_back_is_watched_again(
    tmp_path: Path, write_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.engine.watch._LOOK_SECONDS", 0.05)
    store = tmp_path / "store"
    write_artifact(store)
    repository = Repository(store)

    async def scenario() -> None:
        await repository.start()
        shutil.rmtree(store)
        await asyncio.sleep(0.2)
        write_artifact(store, version="3")
        await until_served(repository, "3")
        await repository.stop()

    run(scenario)
