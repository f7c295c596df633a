"""Ray Serve: two replicas behind HAProxy, batches of up to 32 that wait 5 ms."""

from __future__ import annotations

import os
import signal
from pathlib import Path

os.environ |= {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}

import numpy as np
import orjson
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.serving.digits import Digits
from benchmarks.serving.ports import HOST, given_port


@serve.deployment(num_replicas=2, max_ongoing_requests=64, ray_actor_options={"num_cpus": 0.5})
class Service:
    def __init__(self) -> None:
        self.digits = Digits()

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.005)
    async def run(self, pixels: list[np.ndarray]) -> list[np.ndarray]:
        return list(self.digits(np.stack(pixels)))

    async def __call__(self, request: Request) -> Response:
        """{"pixels": [784 numbers]}, or 784 float32."""
        body = await request.body()
        if request.headers["content-type"] == "application/json":
            pixels = np.array(orjson.loads(body)["pixels"], np.float32)
        else:
            pixels = np.frombuffer(body, np.float32)
        answer = {"probabilities": await self.run(pixels)}
        return Response(
            orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json"
        )


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=str(Path.cwd()))
    serve.start(http_options={"host": HOST, "port": given_port()})
    serve.run(Service.bind(), blocking=False)
    signal.sigwait({signal.SIGTERM})
    serve.shutdown()
    ray.shutdown()
