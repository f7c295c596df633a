"""Every error the server answers is a problem document (RFC 9457); under /v2 it is {"error": "..."} as that
protocol says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeAlias

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Scope

Answerer: TypeAlias = Callable[[Scope, Any], Response]

MEDIA_TYPE = "application/problem+json"

SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "A problem document, RFC 9457.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {
            "type": "string",
            "format": "uri-reference",
            "description": "Names the kind of problem; about:blank when the status says it all.",
        },
        "title": {"type": "string", "description": "The kind of problem in words."},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What was wrong with this request."},
        "instance": {
            "type": "string",
            "format": "uri-reference",
            "description": "This occurrence: urn:request: and the answer's X-Request-ID, as in the log.",
        },
        "expected": {"type": "string", "description": "What would have been right."},
    },
}


class Problem(Exception):  # noqa: N818 - RFC 9457 calls it that
    """Raise it anywhere in a request to answer with a problem document.

    Args:
        status: HTTP status, 400 or above.
        title: the kind of problem in words; it also makes the document's `type`.
        detail: what was wrong with this request.
        expected: what would have been right.
    """

    def __init__(self, status: int, title: str, detail: str, expected: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.expected = expected

    @property
    def type(self) -> str:
        """A URI for the kind of problem."""
        return "urn:momentum-serve:problem:" + self.title.lower().replace(" ", "-")


class StatusProblem(Problem):
    """A problem that has nothing to add to the meaning of its HTTP status."""

    def __init__(self, status: int, detail: str, expected: str | None = None) -> None:
        super().__init__(status, HTTPStatus(status).phrase, detail, expected)

    @property
    def type(self) -> str:
        """RFC 9457, section 4.2.1."""
        return "about:blank"


def respond(problem: Problem, path: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a request for `path` that ended in a problem."""
    if path == "/v2" or path.startswith("/v2/"):
        error = (
            problem.detail if problem.expected is None else f"{problem.detail}; expected {problem.expected}"
        )
        return Response(orjson.dumps({"error": error}), problem.status, headers, "application/json")
    document = {
        "type": problem.type,
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": f"urn:request:{structlog.contextvars.get_contextvars()['request_id']}",
    }
    if problem.expected is not None:
        document["expected"] = problem.expected
    return Response(orjson.dumps(document), problem.status, headers, MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` for these statuses."""
    content = {MEDIA_TYPE: {"schema": SCHEMA}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def install(app: FastAPI) -> None:
    """Make the application answer its errors as problems. `RequestContext` answers uncaught ones."""
    app.state.answerers = {}
    answer_errors(app, Problem, _answer_problem)
    answer_errors(app, HTTPException, _answer_http_exception)
    answer_errors(app, RequestValidationError, _answer_invalid_request)


def answer_errors(app: FastAPI, kind: type[Exception], answerer: Answerer) -> None:
    """Make the application answer errors of a kind, whichever way a request takes through it.

    Args:
        app: an application with problems installed.
        kind: of the errors.
        answerer: is given the request's scope and the error.
    """

    async def handle(request: Request, error: Exception) -> Response:
        return answerer(request.scope, error)

    app.add_exception_handler(kind, handle)
    app.state.answerers[kind] = answerer


def answer_to(app: FastAPI, scope: Scope, error: Exception) -> Response:
    """The answer to a request that ended in an error; the error itself is raised if there is none."""
    answerers: Mapping[type, Answerer] = app.state.answerers
    for kind in type(error).__mro__:
        if kind in answerers:
            return answerers[kind](scope, error)
    raise error


def _answer_problem(scope: Scope, error: Problem) -> Response:
    return respond(error, scope["path"])


def _answer_http_exception(scope: Scope, error: HTTPException) -> Response:
    path = scope["path"]
    detail, expected = error.detail, None
    if error.status_code == HTTPStatus.NOT_FOUND:
        detail, expected = f"there is nothing at {path}", "a path listed at /docs"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "")
        detail, expected = f"{path} does not answer {scope['method']}", f"the method {allowed}"
    return respond(StatusProblem(error.status_code, detail, expected), path, error.headers)


def _answer_invalid_request(scope: Scope, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    where, *names = first["loc"]
    name = ".".join(str(part) for part in names)
    detail = f"{where} parameter {name} is {first.get('input')!r}"
    return respond(Problem(422, "Invalid request", detail, f"{name}: {first['msg']}"), scope["path"])
