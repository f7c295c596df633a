"""The same on a cluster, by Ray Data: each CPU that Ray gives has an actor with an engine of its own.

    from service.batch.ray_data import classify_files

    classify_files("s3://bucket/pictures", model="digits").write_parquet("s3://bucket/results")

Ray reads the files and spreads them, starts again what fails, and writes; it does not go on where an earlier
job was ended. `pip install -e '.[batch,ray-data]'` brings it.
"""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pyarrow as pa
import ray.data

from service.app import check_model
from service.batch.classification import classify
from service.batch.decoding import Recipe, attempt
from service.batch.results import SCHEMA
from service.engine import Engine, Limits
from service.settings import Settings


def classify_files(
    paths: str | list[str],
    *,
    model: str,
    store: str | None = None,
    actors: int | tuple[int, int] = (1, 1024),
    batch_size: int = 64,
) -> ray.data.Dataset:
    """Classify files on Ray's cluster, once the result is asked for.

    Args:
        paths: files or folders, anywhere that Ray can read.
        model: of the store, for digits or for frames.
        store: folder of models, on every node; default: the shipped ones.
        actors: how many, or how many at the least and at the most; each takes a CPU.
        batch_size: files that an actor is given at a time.

    Returns:
        A row a file, with the columns that `python -m service batch` writes.
    """
    files = ray.data.read_binary_files(paths, include_paths=True)
    return files.map_batches(
        Classifier,
        fn_constructor_kwargs={"model": model, "store": store},
        batch_size=batch_size,
        batch_format="pyarrow",
        num_cpus=1,
        concurrency=actors,
    )


class Classifier:
    """An engine with one lane that classifies table after table.

    Args:
        model: of the store.
        store: folder of models; default: the shipped ones.

    Raises:
        StoreError, DeviceError, UnknownModelError
    """

    def __init__(self, model: str, store: str | None = None) -> None:
        settings = Settings.from_command_line([f"--store={store}"] if store else [])
        limits = Limits(settings.queue_rows, settings.queue_bytes)
        self._engine = Engine(settings.store, 1, settings.batch_rows, limits, check=check_model, device="cpu")
        self._model = self._engine.model(model)
        self._recipe = Recipe.of(self._model, settings)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        asyncio.run_coroutine_threadsafe(self._engine.__aenter__(), self._loop).result()

    def __call__(self, files: pa.Table) -> pa.Table:
        """Classify files.

        Args:
            files: with the columns `path` and `bytes`.

        Returns:
            A row a file, of `service.batch.results.SCHEMA`.
        """
        contents = files["bytes"].to_pylist()
        decoded = [attempt(partial(self._recipe.decode, data)) for data in contents]
        working = classify(self._engine, self._model, decoded)
        rows = asyncio.run_coroutine_threadsafe(working, self._loop).result()
        paths = files["path"].to_pylist()
        return pa.Table.from_pylist(
            [{"path": path} | row for path, row in zip(paths, rows, strict=True)], SCHEMA
        )
