"""TorchServe: two workers, batches of up to 32 that wait 5 ms. This file is the handler, too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving.digits import Digits
from benchmarks.serving.ports import HOST, free_port, given_port

CONFIG = """\
inference_address=http://{host}:{port}
management_address=http://{host}:{management}
metrics_address=http://{host}:{metrics}
grpc_inference_port={grpc_inference}
grpc_management_port={grpc_management}
disable_token_authorization=true
disable_system_metrics=true
default_workers_per_model=2
job_queue_size=1000
"""
MODEL_CONFIG = "minWorkers: 2\nmaxWorkers: 2\nbatchSize: 32\nmaxBatchDelay: 5\n"


class Handler:
    def initialize(self, context: Any) -> None:
        self.digits = Digits()

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[dict[str, list[float]]]:
        """{"pixels": [784 numbers]}, which arrives parsed, or 784 float32."""
        bodies = [row["body"] for row in data]
        rows = [
            np.array(body["pixels"], np.float32)
            if isinstance(body, dict)
            else np.frombuffer(body, np.float32)
            for body in bodies
        ]
        return [{"probabilities": row.tolist()} for row in self.digits(np.stack(rows))]


if __name__ == "__main__":
    programs = Path(sys.executable).parent
    Path("store").mkdir()
    Path("model.yaml").write_text(MODEL_CONFIG)
    Path("config.properties").write_text(
        CONFIG.format(
            host=HOST,
            port=given_port(),
            management=free_port(),
            metrics=free_port(),
            grpc_inference=free_port(),
            grpc_management=free_port(),
        )
    )
    archive = [str(programs / "torch-model-archiver"), "--model-name", "digits", "--version", "1"]
    archive += ["--handler", __file__, "--config-file", "model.yaml", "--export-path", "store"]
    subprocess.run(archive, check=True)
    serve = ["torchserve", "--foreground", "--model-store", "store", "--models", "digits=digits.mar"]
    serve += ["--ts-config", "config.properties", "--disable-token-auth", "--no-config-snapshots"]
    os.environ["PATH"] = f"{programs}:{os.environ['PATH']}"  # it starts its workers by the name of python
    os.execv(programs / "torchserve", serve)
