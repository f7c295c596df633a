"""BentoML: two workers, batches of up to 32, adaptive, with a limit on latency that sheds nothing."""

from __future__ import annotations

import base64
import os
import sys

import bentoml
import numpy as np

from benchmarks.serving.digits import PIXELS, Digits
from benchmarks.serving.ports import HOST, given_port


@bentoml.service(workers=2, traffic={"timeout": 60})
class Service:
    def __init__(self) -> None:
        self.digits = Digits()

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=2000)
    def json(self, pixels: np.ndarray) -> np.ndarray:
        """{"pixels": [[784 numbers]]}: a batch is what such an endpoint takes."""
        return self.digits(np.asarray(pixels, np.float32))

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=2000)
    def base64(self, pixels: list[str]) -> np.ndarray:
        """{"pixels": [784 float32 in base64]}: these endpoints refuse bodies of bytes."""
        rows = b"".join(base64.b64decode(row) for row in pixels)
        return self.digits(np.frombuffer(rows, np.float32).reshape(-1, PIXELS))


if __name__ == "__main__":
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    target = f"{__package__}.bentoml:Service"
    command = [sys.executable, "-m", "bentoml", "serve", target, "--host", HOST, "--port", str(given_port())]
    os.execv(sys.executable, command)
