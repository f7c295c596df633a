"""What is served, whatever happens to the store. Without an engine around it."""

from __future__ import annotations

import asyncio
import gc
import shutil
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from service.engine import ModelUnavailableError, StoreError, UnknownModelError
from service.engine.repository import Repository
from service.engine.scan import scan
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


def test_what_could_not_be_loaded_is_tried_again_after_a_while(
    tmp_path: Path, write_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it wanted for, nothing has to happen to its files."""
    memory: list[Exception] = []

    def check(_: Model) -> None:
        if memory:
            raise memory.pop()

    write_artifact(tmp_path)
    repository = Repository(tmp_path, check)

    async def scenario() -> None:
        write_artifact(tmp_path, version="2")
        memory.append(MemoryError("no memory"))
        await repository.refresh()
        await repository.refresh()
        assert repository.problems == [("digits", "2", "MemoryError: no memory")]
        monkeypatch.setattr("service.engine.repository._AGAIN_SECONDS", -1)
        await repository.refresh()
        assert served(repository) == ["digits/1", "digits/2"]
        assert repository.problems == []

    run(scenario)


def test_permissions_that_change_are_noticed(tmp_path: Path, write_artifact: Artifact) -> None:
    folder = write_artifact(tmp_path)
    before = scan(tmp_path)
    assert scan(tmp_path) == before
    (folder / "model.onnx").chmod(0o600)
    assert scan(tmp_path) != before


def test_what_is_written_slowly_is_served_once_it_is_whole(tmp_path: Path, write_artifact: Artifact) -> None:
    """As by `cp -r`, the card first."""
    store = tmp_path / "store"
    write_artifact(store)
    whole = write_artifact(tmp_path / "elsewhere", version="2")
    repository = Repository(store)

    async def scenario() -> None:
        folder = store / "digits" / "2"
        folder.mkdir()
        await repository.refresh()
        shutil.copy(whole / "card.json", folder)
        await repository.refresh()
        graph = (whole / "model.onnx").read_bytes()
        with (folder / "model.onnx").open("wb", buffering=0) as file:
            for start in range(0, len(graph), 1 + len(graph) // 3):
                assert served(repository) == ["digits/1"]
                file.write(graph[start : start + 1 + len(graph) // 3])
                await repository.refresh()
        assert served(repository) == ["digits/1", "digits/2"]
        assert repository.problems == []

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
        assert repository.unread is None
        ruin(store)
        await repository.refresh()
        assert served(repository) == ["digits/1"]
        assert repository.ready
        assert repository.unread is not None
        assert str(store) in repository.unread
        with pytest.raises(ModelUnavailableError, match=f"'digits' can't be loaded now: {store}: "):
            await repository.load("digits")
        shutil.rmtree(store, ignore_errors=True)
        write_artifact(store)
        await repository.load("digits")
        assert repository.unread is None

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


def test_unloading_while_a_version_is_loaded(tmp_path: Path, write_artifact: Artifact) -> None:
    write_artifact(tmp_path)
    loading, go_on = threading.Event(), threading.Event()

    def check(model: Model) -> None:
        if model.card.version == "2":
            loading.set()
            assert go_on.wait(30)

    repository = Repository(tmp_path, check)

    async def scenario() -> None:
        write_artifact(tmp_path, version="2")
        refreshing = asyncio.create_task(repository.refresh())
        await until(loading.is_set)
        assert index(repository) == [("digits", "1", "READY"), ("digits", "2", "LOADING")]
        assert served(repository) == ["digits/1"]
        repository.unload("digits")
        go_on.set()
        await refreshing
        assert served(repository) == []
        await repository.load("digits")
        assert served(repository) == ["digits/1", "digits/2"]

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
