"""Which endpoint answers where."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Response
from starlette.types import Scope

from service.engine import Engine
from service.http.problems import StatusProblem, answer_errors, respond
from service.http.routes import BareRoute, Endpoint, Shortcut
from service.streams.sequences import InterruptedSequenceError, SequenceError, Sequences
from service.v2 import openapi
from service.v2.errors import InvalidRequestError
from service.v2.infer import Inference
from service.v2.metadata import ModelMetadata, ModelReady, ServerMetadata
from service.v2.models import Models
from service.v2.repository import RepositoryEndpoints
from service.v2.signature import Signatures

_STATUSES: dict[type[Exception], int] = {
    InvalidRequestError: 400,
    SequenceError: 400,
    InterruptedSequenceError: 409,
}
_ONE = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")


def install(app: FastAPI, engine: Engine, sequences: Sequences) -> None:
    """Give the application the protocol's endpoints, the busiest first.

    Args:
        app: the application. Routes that it has already are tried before these.
        engine: runs the models.
        sequences: of requests that share a state.
    """
    signatures = Signatures()
    inference = Inference(engine, sequences, signatures)
    models = Models(engine, signatures)
    for path in _ONE:
        _add(
            app,
            f"{path}/infer",
            inference.infer,
            "Run a model",
            openapi.INFER_RESPONSES,
            openapi.INFER_BODY,
            openapi.HEADER_LENGTH,
            shortcut=Shortcut(inference.begin),
        )
    _add(app, "/v2", models.server, "What server is this?", openapi.answers(ServerMetadata))
    _add(app, "/v2/models/stats", models.all_statistics, "What have all models done?", openapi.answers(None))
    for path in _ONE:
        for ending, endpoint, summary, answer in (
            ("", models.metadata, "What does a model take and give?", ModelMetadata),
            ("/ready", models.ready, "Does a model answer?", ModelReady),
            ("/config", models.config, "How is a model configured?", None),
            ("/stats", models.statistics, "What has a model done?", None),
        ):
            _add(app, path + ending, endpoint, summary, openapi.answers(answer, 404, 503))

    repository = RepositoryEndpoints(engine)
    done: dict[int | str, dict[str, Any]] = {200: {"description": "Done"}}
    for path, endpoint, summary, responses in (
        ("index", repository.index, "Which versions are there?", openapi.answers(None, 400, 403)),
        ("models/{model}/load", repository.load, "Serve a model", done | openapi.errors(400, 403, 404, 503)),
        (
            "models/{model}/unload",
            repository.unload,
            "Do not serve a model any more",
            done | openapi.errors(400, 403, 404),
        ),
    ):
        _add(app, f"/v2/repository/{path}", endpoint, summary, responses, openapi.REPOSITORY_BODY)

    for kind in _STATUSES:
        answer_errors(app, kind, _refuse)


def _refuse(scope: Scope, error: Exception) -> Response:
    status = next(_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES)
    return respond(StatusProblem(status, str(error)), scope["path"])


def _add(
    app: FastAPI,
    path: str,
    endpoint: Endpoint,
    summary: str,
    responses: dict[int | str, dict[str, Any]],
    body: dict[str, Any] | None = None,
    *headers: dict[str, Any],
    shortcut: Shortcut | None = None,
) -> None:
    """An endpoint: GET, or POST if it has a body."""
    described: dict[str, Any] = {"parameters": [*openapi.path_parameters(path), *headers]}
    if body is not None:
        described["requestBody"] = body
    BareRoute.add(
        app,
        path,
        endpoint,
        shortcut,
        methods=["GET" if body is None else "POST"],
        tags=["models"],
        summary=summary,
        response_class=Response,
        responses=responses,
        openapi_extra=described,
    )
