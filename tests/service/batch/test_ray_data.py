"""Ray Data classifies as `python -m service batch` does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.batch.conftest import Batch, rows

ray = pytest.importorskip("ray.data", reason="Ray Data is not installed: pip install 'ray[data]'")
pytestmark = pytest.mark.filterwarnings("default")  # Ray's own


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ray on this machine."""
    import ray

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("cluster")
def test_same_rows(batch: Batch, digits_folder: Path, tmp_path: Path) -> None:
    from service.batch.ray_data import classify_files

    folder = digits_folder / "0"
    (tmp_path / "bad.png").write_bytes(b"no picture")
    paths = [str(folder), str(tmp_path / "bad.png")]
    classify_files(paths, model="digits", batch_size=16).write_parquet(str(tmp_path / "ray"))
    assert batch(folder, "--out", tmp_path / "out").status == 0
    found = {Path(row["path"]).name: row | {"path": Path(row["path"]).name} for row in rows(tmp_path / "ray")}
    assert found.pop("bad.png")["error"] == "the bytes are not an image in a known format"
    assert found == {row["path"]: row for row in rows(tmp_path / "out")}
