"""The engine: runs models on a fixed number of threads, with or without a web server around it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from service.store import Model, Tensor, load_store


class UnknownModelError(LookupError):
    """The engine holds no model of that name; the message names those it holds."""


class Engine:
    """The newest version of every model in a store, and the lanes (threads) that run them.

    Args:
        store: folder of artifacts, <model>/<version>/.
        lanes: how many inferences may run side by side.

    Raises:
        StoreError: an artifact is damaged or does not do what its card says.
    """

    def __init__(self, store: Path, lanes: int) -> None:
        self._models = load_store(store)
        self._lanes = ThreadPoolExecutor(lanes, thread_name_prefix="lane")
        self._running = False

    @property
    def ready(self) -> bool:
        """Whether requests are answered: every model is loaded and checked, and the engine has not been
        stopped.
        """
        return self._running

    @property
    def models(self) -> Mapping[str, Model]:
        """The loaded models by name."""
        return self._models

    def model(self, name: str) -> Model:
        """The model of that name.

        Raises:
            UnknownModelError
        """
        try:
            return self._models[name]
        except KeyError:
            raise UnknownModelError(
                f"there is no model {name!r}; this server has {', '.join(self._models)}"
            ) from None

    def submit(
        self, name: str, inputs: Mapping[str, Tensor], outputs: Sequence[str]
    ) -> Future[dict[str, Tensor]]:
        """Queue one inference and return at once; see `Model.run` for the arguments.

        Raises:
            UnknownModelError
        """
        return self._lanes.submit(self.model(name).run, inputs, outputs)

    async def infer(
        self, name: str, inputs: Mapping[str, Tensor], outputs: Sequence[str]
    ) -> dict[str, Tensor]:
        """`submit`, and wait for the answer. Cancelling the wait takes the request out of the queue."""
        return await asyncio.wrap_future(self.submit(name, inputs, outputs))

    async def __aenter__(self) -> Self:
        self._running = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what runs, drop what is still queued."""
        self._running = False
        await asyncio.to_thread(self._lanes.shutdown, cancel_futures=True)
