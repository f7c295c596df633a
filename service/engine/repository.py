"""The models and versions that are served."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from service.engine.errors import UnknownModelError
from service.engine.store import Model, load_store


class Repository:
    """The newest version of every model in a store.

    Args:
        store: folder of artifacts, <model>/<version>/.
        check: raises StoreError for a model that must not be served.

    Raises:
        StoreError: there is no model, or one of which no version can be served.
    """

    def __init__(self, store: Path, check: Callable[[Model], None]) -> None:
        self._models = load_store(store)
        for model in self._models.values():
            check(model)

    @property
    def models(self) -> Mapping[str, Model]:
        """The newest version of each model that can be run."""
        return self._models

    @property
    def ready(self) -> bool:
        """Whether every model can be run."""
        return True

    @property
    def problems(self) -> list[tuple[str, str, str]]:
        """Name, version and reason of what is in the store and can't be served."""
        return []

    def model(self, name: str, version: str | None = None) -> Model:
        """A version of a model, by default the newest that can be run.

        Raises:
            UnknownModelError, ModelUnavailableError
        """
        model = self._models.get(name)
        if model is None or version not in (None, model.card.version):
            raise UnknownModelError(f"there is no model {name!r}; this server has {', '.join(self._models)}")
        return model

    def fault(self, model: Model, reason: str) -> None:
        """The model runs no more."""
        raise NotImplementedError

    async def start(self) -> None:
        """Begin to watch the store."""

    async def stop(self) -> None:
        """Do not watch it any more."""
