"""The digits model in onnxruntime, as everybody runs it here: the peers, and the loop without a server."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Floats = NDArray[np.float32]

MODEL = "BENCH_MODEL"  # the environment variable that tells a peer where the graph is
PIXELS = 784


class Digits:
    """A session with one thread, with the options that the service uses. Several threads may call it.

    Args:
        graph: model.onnx, by default the one that this process was told of.
    """

    def __init__(self, graph: Path | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._run = onnxruntime.RunOptions()
        self._run.only_execute_path_to_fetches = True  # not the trace
        self._session = onnxruntime.InferenceSession(
            str(graph or os.environ[MODEL]), options, providers=["CPUExecutionProvider"]
        )
        inputs = self._session.get_inputs()
        self._states = {tensor.name: tuple(tensor.shape[1:]) for tensor in inputs if len(tensor.shape) == 3}

    def __call__(self, pixels: Floats) -> Floats:
        """Pixels [batch, 784] in [0, 1] -> probabilities [batch, 10]."""
        batch, size = pixels.shape
        feeds = {name: np.zeros((batch, *shape), np.float32) for name, shape in self._states.items()}
        feeds |= {"pixels": pixels, "lengths": np.full(batch, size, np.int32)}
        (probabilities,) = self._session.run(["probabilities"], feeds, self._run)
        return np.asarray(probabilities)
