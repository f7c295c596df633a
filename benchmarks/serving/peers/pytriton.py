"""PyTriton, which is Triton with Python behind it: two instances, batches of up to 32 that wait 0.5 ms."""

from __future__ import annotations

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.serving.digits import PIXELS, Digits
from benchmarks.serving.ports import HOST, free_port, given_port


class Instance:
    def __init__(self) -> None:
        self.digits = Digits()

    @batch
    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        return {"probabilities": self.digits(pixels)}


if __name__ == "__main__":
    config = TritonConfig(
        http_address=HOST,
        http_port=given_port(),
        grpc_port=free_port(),
        metrics_port=free_port(),
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="digits",
            infer_func=[Instance(), Instance()],
            inputs=[Tensor(name="pixels", dtype=np.float32, shape=(PIXELS,))],
            outputs=[Tensor(name="probabilities", dtype=np.float32, shape=(10,))],
            config=ModelConfig(max_batch_size=32, batcher=DynamicBatcher(max_queue_delay_microseconds=500)),
        )
        triton.serve()
