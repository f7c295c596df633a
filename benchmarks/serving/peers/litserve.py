"""LitServe: two workers, two API processes, batches of up to 32 that wait 2 ms."""

# without `from __future__ import annotations`: LitServe looks at what an annotation is

from typing import Annotated

import litserve
import numpy as np
import orjson
from fastapi import Depends, Request

from benchmarks.serving.digits import PIXELS, Digits
from benchmarks.serving.ports import HOST, given_port


async def read(request: Request) -> bytes:
    """The body as it is. LitServe itself would parse JSON with the standard library, and it formats what it
    gets for a debug log that is off: of an array that takes milliseconds.
    """
    return await request.body()


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.digits = Digits()

    def decode_request(self, request: Annotated[bytes, Depends(read)]) -> np.ndarray:
        """784 float32, or {"pixels": [784 numbers]}, which is longer."""
        if len(request) == 4 * PIXELS:
            return np.frombuffer(request, np.float32)
        return np.array(orjson.loads(request)["pixels"], np.float32)

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        return np.stack(inputs)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.digits(x)

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        return list(output)

    def encode_response(self, output: np.ndarray) -> dict[str, list[float]]:
        return {"probabilities": output.tolist()}


if __name__ == "__main__":
    api = Api(max_batch_size=32, batch_timeout=0.002)
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=2, timeout=60)
    server.run(
        host=HOST,
        port=given_port(),
        num_api_servers=2,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
