"""What the models run on."""

from __future__ import annotations

import onnxruntime
from pydantic import BaseModel, Field

from service.engine import Engine

_SUFFIX = "ExecutionProvider"


class Device(BaseModel):
    """What the models run on."""

    device: str = Field(description="cpu or cuda.")
    provider: str = Field(description="onnxruntime's name for what executes the graphs.")
    onnxruntime: str = Field(description="Its version.")

    @classmethod
    def of(cls, engine: Engine) -> Device:
        """That of the engine's sessions, as they tell it themselves."""
        session = next(iter(engine.models.values())).session
        provider: str = session.get_providers()[0]
        return cls(
            device=provider.removesuffix(_SUFFIX).lower(),
            provider=provider,
            onnxruntime=onnxruntime.__version__,
        )
