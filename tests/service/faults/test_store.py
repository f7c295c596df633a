"""A new version that does not arrive whole, and disks that are full. (Triton's polling may see half-written
files, for which it is advised against.)
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from exports.card import Card
from exports.errors import ExportError
from exports.store import write_artifact as export
from tests.service.faults.launcher import Fault
from tests.service.faults.load import RIGHT, Load, wait_until

Write = Callable[..., Path]
PAGE = 4096


@pytest.fixture
def elsewhere(tmp_path: Path, write_artifact: Write) -> Path:
    """Version 2 of the small artifact, in no store."""
    return write_artifact(tmp_path / "elsewhere", version="2")


def ready(server: Any) -> Any:
    """What readiness says, which is true all the time."""
    response = server.client.get("/v2/health/ready")
    assert response.status_code == 200
    return response.json()


def served(server: Any) -> str:
    """The version that answers."""
    return str(server.client.post("/v1/digits", json={"pixels": [0, 1] * 392}).json()["version"])


def test_an_artifact_that_is_truncated_in_the_middle_of_a_reload_disturbs_nobody(
    serve: Any, tmp_path: Path, write_artifact: Write, elsewhere: Path
) -> None:
    store = tmp_path / "store"
    write_artifact(store)
    folder = store / "digits" / "2"
    whole = (elsewhere / "model.onnx").read_bytes()
    with serve("--store", store, "--local-admin") as server, Load(server.url, clients=2) as load:
        folder.mkdir()
        shutil.copy(elsewhere / "card.json", folder)
        with (folder / "model.onnx").open("wb") as graph:
            graph.write(whole[: len(whole) // 2])
            graph.flush()
            wait_until(lambda: "2/model.onnx: has" in str(ready(server)["problems"]), "named")
            assert server.client.post("/v2/repository/models/digits/load").status_code == 200
            assert served(server) == "1"
            graph.write(whole[len(whole) // 2 :])
        wait_until(lambda: served(server) == "2", "served once it is whole")
        assert ready(server)["problems"] == []
        with (folder / "model.onnx").open("r+b") as graph:
            graph.truncate(100)  # of what is served
        wait_until(lambda: "2/model.onnx: has 100 bytes" in str(ready(server)["problems"]), "named")
        assert served(server) == "2"
        load.wait(10)
        load.stop()
        load.join()
        assert set(load.outcomes) == {RIGHT}


def test_a_store_that_cannot_be_read_is_told_of(serve: Any, tmp_path: Path, write_artifact: Write) -> None:
    """Without taking the server, and all others of that store, out of service."""
    store, away = tmp_path / "store", tmp_path / "away"
    write_artifact(store)
    problem = f"the store cannot be read: {store}: no such folder"
    with serve("--store", store, "--local-admin") as server:

        def load() -> Any:
            return server.client.post("/v2/repository/models/digits/load")

        assert "momentum_store_readable 1.0" in server.client.get("/metrics").text
        store.rename(away)
        response = load()
        assert response.status_code == 503
        assert f"can't be loaded now: {store}: no such folder" in response.json()["error"]
        readiness = server.client.get("/v2/health/ready")
        assert readiness.status_code == 200
        (told,) = readiness.json()["problems"]
        assert told.startswith(problem)
        assert told.endswith("; still serving what was loaded")
        assert server.client.get("/v1/status").json()["problems"] == [told]
        assert "momentum_store_readable 0.0" in server.client.get("/metrics").text
        assert served(server) == "1"
        away.rename(store)
        assert load().status_code == 200
        assert ready(server)["problems"] == []
        assert "momentum_store_readable 1.0" in server.client.get("/metrics").text
        events = [line["event"] for line in server.log() if line["event"].startswith("store")]
        assert events == ["store not read", "store read again"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    ended = subprocess.run(mount, capture_output=True, text=True, check=False)
    if ended.returncode:
        pytest.skip(f"needs to mount a small disk: {ended.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_store_on_a_full_disk_serves_on(
    serve: Any, small_disk: Path, write_artifact: Write, elsewhere: Path
) -> None:
    write_artifact(small_disk)
    with serve("--store", small_disk) as server, Load(server.url, clients=2) as load:
        filler = small_disk / ".filler"
        fill(filler)
        copy = ["cp", "--recursive", str(elsewhere), str(small_disk / "digits")]
        ended = subprocess.run(copy, capture_output=True, text=True, check=False)
        assert "No space left on device" in ended.stderr
        wait_until(lambda: "digits version 2" in str(ready(server)["problems"]), "named")
        assert served(server) == "1"
        shutil.rmtree(small_disk / "digits" / "2")
        with pytest.raises(ExportError, match="No space left on device"):
            export(small_disk, Card.read(elsewhere / "card.json"), (elsewhere / "model.onnx").read_bytes())
        assert [path.name for path in (small_disk / "digits").iterdir()] == ["1"]
        filler.unlink()
        subprocess.run(copy, check=True)
        wait_until(lambda: served(server) == "2", "served")
        assert ready(server)["problems"] == []
        load.stop()
        load.join()
        assert set(load.outcomes) == {RIGHT}


def fill(path: Path) -> None:
    """Leave one page of a disk free."""
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(PAGE)):
                pass
        except OSError:
            file.truncate(file.tell() - PAGE)


def test_a_log_on_a_full_disk_stops_nothing(serve_faulty: Any, small_store: Path) -> None:
    with serve_faulty("--store", small_store) as server, Load(server.url, clients=2) as load:
        load.wait(5)
        server.process.send_signal(Fault.LOG_FULL)
        load.wait(50)
        assert server.client.get("/v2/models/letters").status_code == 404
        server.process.send_signal(Fault.LOG_FREE)
        request = server.client.get("/v1/status")
        assert server.logged(request.headers["x-request-id"])
        load.stop()
        load.join()
        assert set(load.outcomes) == {RIGHT}
        server.process.send_signal(Fault.LOG_FULL)
        assert server.stop() == 0
