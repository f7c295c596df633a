"""What the engine could not do, as problems."""

from __future__ import annotations

import math

from fastapi import FastAPI, Response
from starlette.types import Scope

from service.engine import (
    DeadlineExceededError,
    EngineStoppedError,
    InvalidTensorsError,
    LaneDiedError,
    ModelUnavailableError,
    OverloadedError,
    UnknownModelError,
)
from service.http.problems import Problem, answer_errors, respond

_KINDS: dict[type[Exception], tuple[int, str]] = {
    InvalidTensorsError: (400, "Invalid tensors"),
    UnknownModelError: (404, "Unknown model"),
    OverloadedError: (429, "Overloaded"),
    LaneDiedError: (500, "Interrupted"),  # not the request's fault, nor about to happen again
    ModelUnavailableError: (503, "Model unavailable"),
    EngineStoppedError: (503, "Stopping"),
    DeadlineExceededError: (504, "Deadline exceeded"),
}


def install(app: FastAPI) -> None:
    """Make the application answer the engine's errors. Those that may be gone soon say when to come back."""
    for kind in _KINDS:
        answer_errors(app, kind, _answer)


def _answer(scope: Scope, error: Exception) -> Response:
    status, title = next(_KINDS[kind] for kind in type(error).__mro__ if kind in _KINDS)
    headers = {}
    if isinstance(error, OverloadedError):
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    elif isinstance(error, LaneDiedError):
        headers["Retry-After"] = "1"
    return respond(Problem(status, title, str(error)), scope["path"], headers)
