"""MLServer: in one process, two threads that run, batches of up to 32 that wait 0.5 ms."""

from __future__ import annotations

import asyncio
import base64
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import uvloop
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

from benchmarks.serving.digits import PIXELS, Digits
from benchmarks.serving.ports import HOST, free_port, given_port


class Model(MLModel):
    async def load(self) -> bool:
        self.digits = Digits()
        self.threads = ThreadPoolExecutor(2)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """FP32 [batch, 784], or BYTES [batch] of 784 float32 in base64: it has no binary tensors in HTTP."""
        tensor = payload.inputs[0]
        if tensor.datatype == "BYTES":
            rows = b"".join(base64.b64decode(row) for row in tensor.data)
            pixels = np.frombuffer(rows, np.float32).reshape(-1, PIXELS)
        else:
            pixels = np.array(tensor.data.root, np.float32).reshape(-1, PIXELS)
        probabilities = await asyncio.get_running_loop().run_in_executor(self.threads, self.digits, pixels)
        output = ResponseOutput(
            name="probabilities",
            datatype="FP32",
            shape=probabilities.shape,
            data=probabilities.ravel().tolist(),
        )
        return InferenceResponse(model_name=self.name, outputs=[output])


async def serve() -> None:
    settings = Settings(
        host=HOST,
        http_port=given_port(),
        grpc_port=free_port(),
        metrics_endpoint=None,
        parallel_workers=0,
        debug=False,
    )
    model = ModelSettings(name="digits", implementation=Model, max_batch_size=32, max_batch_time=0.0005)
    await MLServer(settings).start([model])


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(serve())
