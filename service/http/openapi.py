"""What the API's description says of all operations: how to show a key, and how long they may take."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from service.http.access import is_open
from service.http.deadline import TIMEOUT
from service.http.problems import documented
from service.settings import Settings

_KEYS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, if the server has any."},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same."},
}
_ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}


def install(app: FastAPI, settings: Settings) -> None:
    """Make the description complete, once all routes are there."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        fresh = app.openapi_schema is None  # it is kept
        document = describe()
        if fresh:
            document["components"]["securitySchemes"] = _KEYS
            for path, operations in document["paths"].items():
                for operation in operations.values():
                    _complete(path, operation, settings)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(path: str, operation: dict[str, Any], settings: Settings) -> None:
    answers = operation["responses"]
    if "504" in answers:  # it waits for a model
        parameter = {
            "name": TIMEOUT,
            "in": "header",
            "required": False,
            "description": "Seconds in which the request has to be answered, counted from its head; "
            f"{settings.request_seconds:g} without it.",
            "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": settings.max_request_seconds},
        }
        operation.setdefault("parameters", []).append(parameter)
        _document(path, answers, 400, 408)
    if settings.api_keys is not None and not is_open(path):
        operation["security"] = [{name: []} for name in _KEYS]
        _document(path, answers, 401, 403, 429)


def _document(path: str, answers: dict[str, Any], *statuses: int) -> None:
    """Add what an operation may answer besides what it says itself."""
    for status in statuses:
        answer = documented(status)[status]
        if path == "/v2" or path.startswith("/v2/"):
            answer = {
                "description": HTTPStatus(status).phrase,
                "content": {"application/json": {"schema": _ERROR}},
            }
        answers.setdefault(str(status), answer)
