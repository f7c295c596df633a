"""The engine: loads models from a store and runs them in batches. It works without the web server, and
imports nothing of it.
"""

from service.engine.engine import Engine, EngineStoppedError, UnknownModelError
from service.engine.store import Model, StoreError, Tensor

__all__ = ["Engine", "EngineStoppedError", "Model", "StoreError", "Tensor", "UnknownModelError"]
