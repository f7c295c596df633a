"""The model repository extension: which versions there are, and loading and unloading models.

The store is watched anyway: loading is for a model that was unloaded, or for not having to wait.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
from fastapi import Request, Response

from service.engine import Engine
from service.engine.repository import State
from service.http.words import describe, quote
from service.v2.errors import InvalidRequestError

_MOST_BYTES = 2**16  # of a body


class RepositoryEndpoints:
    """The endpoints.

    Args:
        engine: holds the models.
    """

    def __init__(self, engine: Engine) -> None:
        self._repository = engine.repository

    async def index(self, request: Request) -> Response:
        """All versions of all models, with their states: READY, LOADING, UNLOADING (streams that began on it
        go on) or UNAVAILABLE, and why. With `{"ready": true}` those that are ready.
        """
        document = await _document(request, {"ready"})
        ready = document.get("ready", False)
        if not isinstance(ready, bool):
            raise InvalidRequestError(f"ready is {describe(ready)}; expected true or false")
        entries = [
            {"name": entry.name, "version": entry.version, "state": entry.state, "reason": entry.reason}
            for entry in self._repository.index()
            if entry.state is State.READY or not ready
        ]
        return Response(orjson.dumps(entries), media_type="application/json")

    async def load(self, request: Request) -> Response:
        """Serve a model that was unloaded, or look at its files now. Answers when it is ready."""
        document = await _document(request, {"parameters"})
        if document.get("parameters"):
            raise InvalidRequestError(
                f"the parameters are {_names(document['parameters'])}; expected none: models come from the "
                "store"
            )
        await self._repository.load(request.path_params["model"])
        return Response()

    async def unload(self, request: Request) -> Response:
        """Do not serve a model any more, until it is loaded again or the server is started anew. What has
        begun on it is finished.
        """
        document = await _document(request, {"parameters"})
        unknown = set(document.get("parameters") or {}) - {"unload_dependents"}
        if unknown:
            raise InvalidRequestError(f"there is no parameter {_names(unknown)}")
        self._repository.unload(request.path_params["model"])
        return Response()


async def _document(request: Request, names: set[str]) -> dict[str, Any]:
    """The body, an object with these fields; it may be left out.

    Raises:
        InvalidRequestError
    """
    body = await request.body()
    if not body:
        return {}
    if len(body) > _MOST_BYTES:
        raise InvalidRequestError(f"the body has {len(body)} bytes; expected at most {_MOST_BYTES}")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("parameters") or {}, dict):
        raise InvalidRequestError(f"the body is no object with {' or '.join(sorted(names))}")
    if unknown := document.keys() - names:
        raise InvalidRequestError(
            f"the body has {_names(unknown)}; expected {' or '.join(sorted(names))} or nothing"
        )
    return document


def _names(names: Iterable[str]) -> str:
    """Names that were sent, in quotes, as many as an error should have."""
    first = sorted(names)[:8]
    return ", ".join([quote(name) for name in first])
