"""Why a request has no answer."""

from __future__ import annotations


class UnknownModelError(LookupError):
    """The engine knows no model, or no version, of that name; the message names those it has."""


class ModelUnavailableError(RuntimeError):
    """The model is known, but can't be run now; the message says why."""


class InvalidTensorsError(ValueError):
    """Inputs or outputs that are not the model's; the message says which, and what was expected."""


class OverloadedError(RuntimeError):
    """More waits than the engine takes, or than can be run by the request's deadline. Nothing was done.

    Attributes:
        retry_after: seconds after which what waits now will have been run, as far as can be told.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineExceededError(TimeoutError):
    """The request's deadline passed, or could not be met any more, while it waited. It was not run."""


class CancelledRequestError(RuntimeError):
    """Nobody waits for the answer any more."""


class LaneDiedError(RuntimeError):
    """The thread that ran the request ended in the middle of it."""


class EngineStoppedError(RuntimeError):
    """The engine was stopped, or never started."""
