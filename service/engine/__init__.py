"""The engine: loads models from a store and runs them in batches. It works without the web server, and
imports nothing of it.

    async with Engine(store) as engine:
        answer = await engine.infer("digits", {"pixels": pixels, "lengths": lengths}, ["probabilities"])
"""

from service.engine.batching import Answer, Request
from service.engine.clock import Clock, Timer
from service.engine.devices import DeviceError
from service.engine.engine import MAX_ROWS, Engine
from service.engine.errors import (
    CancelledRequestError,
    DeadlineExceededError,
    EngineStoppedError,
    InvalidTensorsError,
    LaneDiedError,
    ModelUnavailableError,
    OverloadedError,
    UnknownModelError,
)
from service.engine.observer import Observer
from service.engine.scheduler import Limits
from service.engine.store import Model, StoreError, Tensor

__all__ = [
    "MAX_ROWS",
    "Answer",
    "CancelledRequestError",
    "Clock",
    "DeadlineExceededError",
    "DeviceError",
    "Engine",
    "EngineStoppedError",
    "InvalidTensorsError",
    "LaneDiedError",
    "Limits",
    "Model",
    "ModelUnavailableError",
    "Observer",
    "OverloadedError",
    "Request",
    "StoreError",
    "Tensor",
    "Timer",
    "UnknownModelError",
]
