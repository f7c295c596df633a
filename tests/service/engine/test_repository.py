"""What is served, whatever happens to the store. Without an engine around it."""

from __future__ import annotations

import asyncio
import gc
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from service.engine import ModelUnavailableError, StoreError, UnknownModelError
from service.engine.repository import Repository
from service.engine.store import Model

Artifact = Callable[..., Path]


def served(repository: Repository) -> list[str]:
    return sorted(f"{model.card.name}/{model.card.version}" for model in repository.versions)


def index(repository: Repository) -> list[tuple[str, str, str]]:
    return [(entry.name, entry.version, str(entry.state)) for entry in repository.index()]


def truncate(folder: Path) -> None:
    graph = folder / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-100])


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 60))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def test_the_newest_versions_are_served(tmp_path: Path, write_artifact: Artifact) -> None:
    for version in ("2", "10", "9"):
        write_artifact(tmp_path, version=version)
    write_artifact(tmp_path, name="letters")
    for junk in ("digits/11.partial", "digits/.12.34", "digits/013", ".hidden/1", "empty"):
        (tmp_path / junk).mkdir(parents=True)
    (tmp_path / "README").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    repository = Repository(tmp_path)
    assert served(repository) == ["digits/10", "digits/9", "letters/1"]
    assert {name: model.card.version for name, model in repository.models.items()} == {
        "digits": "10",
        "letters": "1",
    }
    assert repository.model("digits", "9").card.version == "9"
    assert repository.ready
    assert repository.problems == []


def test_models_that_are_not_there_are_told_from_those_that_are(
    tmp_path: Path, write_artifact: Artifact
) -> None:
    write_artifact(tmp_path)
    repository = Repository(tmp_path)
    with pytest.raises(UnknownModelError, match="there is no model 'letters'; this server has digits"):
        repository.model("letters")
    with pytest.raises(UnknownModelError, match="'digits' has no version '7'; versions that can be run: 1"):
        repository.model("digits", "7")


def test_a_store_without_models(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"holds no model; expected <model>/<version>/card.json"):
        Repository(tmp_path)
    with pytest.raises(StoreError, match="no such folder"):
        Repository(tmp_path / "missing")


def test_a_model_of_which_nothing_can_be_served_is_refused_at_the_start(
    tmp_path: Path, write_artifact: Artifact
) -> None:
    write_artifact(tmp_path)
    truncate(write_artifact(tmp_path, name="letters"))
    with pytest.raises(StoreError, match=r"letters/1/model\.onnx: has .* bytes, the card says"):
        Repository(tmp_path)


def test_an_older_version_is_served_where_the_newest_is_broken(
    tmp_path: Path, write_artifact: Artifact
) -> None:
    write_artifact(tmp_path)
    truncate(write_artifact(tmp_path, version="2"))
    repository = Repository(tmp_path)
    assert served(repository) == ["digits/1"]
    assert repository.ready
    ((name, version, reason),) = repository.problems
    assert (name, version) == ("digits", "2")
    assert "the file is incomplete" in reason
    with pytest.raises(ModelUnavailableError, match=r"model 'digits' version 2: .* the file is incomplete"):
        repository.model("digits", "2")


def test_a_new_version_takes_over_when_it_is_ready(tmp_path: Path, write_artifact: Artifact) -> None:
    write_artifact(tmp_path)
    repository = Repository(tmp_path, keep=1)
    held = repository.model("digits")

    async def scenario() -> None:
        write_artifact(tmp_path, version="2")
        await repository.refresh()
        assert served(repository) == ["digits/2"]
        assert index(repository) == [("digits", "1", "UNLOADING"), ("digits", "2", "READY")]

    run(scenario)
    del held  # the last stream that began on it has ended
    gc.collect()
    assert index(repository) == [("digits", "2", "READY")]


def test_a_broken_version_replaces_nothing_and_is_tried_again_when_it_changes(
    tmp_path: Path, write_artifact: Artifact
) -> None:
    write_artifact(tmp_path)
    repository = Repository(tmp_path)

    async def scenario() -> None:
        folder = write_artifact(tmp_path, version="2")
        whole = (folder / "model.onnx").read_bytes()
        truncate(folder)
        for _ in range(3):
            await repository.refresh()
        assert served(repository) == ["digits/1"]
        assert [problem[:2] for problem in repository.problems] == [("digits", "2")]
        assert repository.ready
        assert repository.loads == {"loaded": 1, "failed": 1}
        (folder / "model.onnx").write_bytes(whole)
        await repository.refresh()
        assert served(repository) == ["digits/1", "digits/2"]
        assert repository.problems == []

    run(scenario)


def test_files_that_break_under_a_version_do_not_stop_it(tmp_path: Path, write_artifact: Artifact) -> None:
    folder = write_artifact(tmp_path)
    repository = Repository(tmp_path)

    async def scenario() -> None:
        truncate(folder)
        await repository.refresh()
        assert served(repository) == ["digits/1"]
        assert [problem[:2] for problem in repository.problems] == [("digits", "1")]

    run(scenario)


def test_a_version_that_must_not_be_served(tmp_path: Path, write_artifact: Artifact) -> None:
    def check(model: Model) -> None:
        if model.card.version == "2":
            raise StoreError("not this one")

    write_artifact(tmp_path)
    repository = Repository(tmp_path, check)

    async def scenario() -> None:
        write_artifact(tmp_path, version="2")
        await repository.refresh()
        assert served(repository) == ["digits/1"]
        assert repository.problems == [("digits", "2", "not this one")]

    run(scenario)


def test_versions_that_go_are_not_served_any_more(tmp_path: Path, write_artifact: Artifact) -> None:
    folders = [write_artifact(tmp_path, version=version) for version in ("1", "2")]
    write_artifact(tmp_path, name="letters")
    repository = Repository(tmp_path)

    async def scenario() -> None:
        shutil.rmtree(folders[1])
        await repository.refresh()
        assert served(repository) == ["digits/1", "letters/1"]
        shutil.rmtree(folders[0])
        await repository.refresh()
        assert served(repository) == ["letters/1"]
        assert repository.ready

    run(scenario)


@pytest.mark.parametrize(
    "ruin", [shutil.rmtree, lambda store: [shutil.rmtree(path) for path in store.iterdir()]]
)
def test_a_store_that_vanishes_stops_nothing(
    tmp_path: Path, write_artifact: Artifact, ruin: Callable[[Path], object]
) -> None:
    store = tmp_path / "store"
    write_artifact(store)
    repository = Repository(store)

    async def scenario() -> None:
        ruin(store)
        await repository.refresh()
        assert served(repository) == ["digits/1"]

    run(scenario)


def test_unloading_and_loading(tmp_path: Path, write_artifact: Artifact) -> None:
    write_artifact(tmp_path)
    write_artifact(tmp_path, name="letters")
    repository = Repository(tmp_path)

    async def scenario() -> None:
        repository.unload("letters")
        repository.unload("letters")
        with pytest.raises(ModelUnavailableError, match="'letters' can't be run now: it was unloaded"):
            repository.model("letters")
        await repository.refresh()  # the store has it, and nobody asks for it
        assert served(repository) == ["digits/1"]
        gc.collect()
        assert ("letters", "", "UNAVAILABLE") in index(repository)
        assert repository.ready
        await repository.load("letters")
        assert served(repository) == ["digits/1", "letters/1"]
        with pytest.raises(UnknownModelError):
            repository.unload("words")
        with pytest.raises(UnknownModelError):
            await repository.load("words")

    run(scenario)


def test_a_model_that_runs_no_more_is_loaded_anew(tmp_path: Path, write_artifact: Artifact) -> None:
    write_artifact(tmp_path)
    repository = Repository(tmp_path)

    async def scenario() -> None:
        broken = repository.model("digits")
        repository.fault(broken, "the device is gone")
        assert not repository.ready
        with pytest.raises(ModelUnavailableError, match="the device is gone"):
            repository.model("digits")
        await until(lambda: repository.ready)
        assert repository.model("digits") is not broken
        repository.fault(broken, "told late")  # of one that is served no more
        assert repository.ready
        await repository.stop()

    run(scenario)


def test_the_store_is_watched(tmp_path: Path, write_artifact: Artifact) -> None:
    store = tmp_path / "store"
    write_artifact(store)
    repository = Repository(store)

    async def scenario() -> None:
        await repository.start()
        write_artifact(tmp_path / "elsewhere", version="2").rename(store / "digits" / "2")
        await until(lambda: served(repository) == ["digits/1", "digits/2"])
        shutil.rmtree(store / "digits" / "1")
        await until(lambda: served(repository) == ["digits/2"])
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
        await until(lambda: served(repository) == ["digits/3"])
        await repository.stop()

    run(scenario)


def test_what_was_measured_is_not_measured_again(
    tmp_path: Path, write_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[Any] = []

    def count(*arguments: Any) -> Any:
        measured.append(arguments)
        return measure(*arguments)

    from service.engine import store

    measure = store.measure
    monkeypatch.setattr(store, "measure", count)
    for version in ("1", "2"):
        write_artifact(tmp_path, version=version)
    repository = Repository(tmp_path)
    assert served(repository) == ["digits/1", "digits/2"]
    assert len(measured) == 1
