"""What is told about the server and its models."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import Request, Response

from service.engine import Engine, Model, ModelUnavailableError
from service.v2 import metadata
from service.v2.signature import Signatures
from service.v2.statistics import render


class Models:
    """The endpoints.

    Args:
        engine: holds the models, and counts what they do.
        signatures: of the models.
    """

    def __init__(self, engine: Engine, signatures: Signatures) -> None:
        self._engine = engine
        self._signatures = signatures

    async def server(self, _: Request) -> Response:
        """The server's name and version, and the extensions of the protocol that it speaks."""
        return _json(metadata.server())

    async def metadata(self, request: Request) -> Response:
        """The tensors that requests hold and ask for; -1 is a dimension of any size from 1 on."""
        model = self._model(request)
        versions = [other.card.version for other in self._versions(model.card.name)]
        return _json(metadata.model(self._signatures.of(model), versions))

    async def config(self, request: Request) -> Response:
        """As much of Triton's model configuration as has a meaning here. It has the model's states too."""
        rows = request.app.state.settings.queue_rows
        return _json(metadata.config(self._signatures.of(self._model(request)), rows))

    async def ready(self, request: Request) -> Response:
        """200 when the model, or this version of it, is loaded and has replayed its golden pair, else 503."""
        name = request.path_params["model"]
        try:
            self._model(request)
        except ModelUnavailableError:
            return _json({"name": name, "ready": False}, 503)
        return _json({"name": name, "ready": True})

    async def statistics(self, request: Request) -> Response:
        """Counts, and durations in nanoseconds, of this version, or of all that can be run, since the server
        was started: take the difference of two answers for what happened between them.
        """
        model = self._model(request)
        return self._render([model] if "version" in request.path_params else self._versions(model.card.name))

    async def all_statistics(self, _: Request) -> Response:
        """Counts, and durations in nanoseconds, of all versions that can be run, since the server was
        started: take the difference of two answers for what happened between them.
        """
        return self._render(self._engine.repository.versions)

    def _model(self, request: Request) -> Model:
        return self._engine.model(request.path_params["model"], request.path_params.get("version"))

    def _versions(self, name: str) -> list[Model]:
        """All of the model that can be run."""
        return [model for model in self._engine.repository.versions if model.card.name == name]

    def _render(self, models: list[Model]) -> Response:
        cards = [model.card for model in models]
        rendered = [
            render(card.name, card.version, self._engine.statistics.of(card.name, card.version))
            for card in cards
        ]
        return _json({"model_stats": rendered})


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
