"""Running an exported graph, for verification and for measuring: onnxruntime on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from exports.card import StateSpec

Floats = npt.NDArray[np.float32]
States = dict[str, Floats]


class Runner:
    """An exported digits graph in onnxruntime.

    Args:
        model: the file, or its content.
        states: the card's states.
        threads: threads an operator may use.
    """

    def __init__(self, model: Path | bytes, states: Sequence[StateSpec], threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        source = model if isinstance(model, bytes) else str(model)
        self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self._states = states

    def run(
        self, pixels: Floats, lengths: Sequence[int] | None = None, states: States | None = None
    ) -> tuple[Floats, Floats, States]:
        """Run once.

        Args:
            pixels: [batch, time].
            lengths: how many of each row's pixels count; default all.
            states: to go on from; default the start.

        Returns:
            Probabilities [batch, classes], trace [batch, time, classes], and the states after each row's last
            pixel.
        """
        batch, time = pixels.shape
        feeds = {
            "pixels": pixels,
            "lengths": np.asarray(lengths if lengths is not None else [time] * batch, np.int32),
        }
        feeds |= states if states is not None else self.start(batch)
        names = ["probabilities", "trace", *(state.output for state in self._states)]
        probabilities, trace, *after = self._session.run(names, feeds)
        return (
            probabilities,
            trace,
            {state.name: value for state, value in zip(self._states, after, strict=True)},
        )

    def start(self, batch: int) -> States:
        """The states that mean "start"."""
        return {
            state.name: np.zeros([batch, *(int(size) for size in state.shape[1:])], np.float32)
            for state in self._states
        }

    def classify(self, pixels: Floats, batch_size: int = 64) -> npt.NDArray[np.int64]:
        """The most probable class of each row of `pixels` [count, time]."""
        chosen = [
            self.run(pixels[start : start + batch_size])[0].argmax(axis=1)
            for start in range(0, len(pixels), batch_size)
        ]
        return np.concatenate(chosen).astype(np.int64)
