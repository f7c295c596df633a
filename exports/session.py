"""Running an exported graph, for verification and for measuring: onnxruntime on the CPU."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime

from exports.card import StateSpec, TensorSpec

Floats = npt.NDArray[np.float32]
States = dict[str, npt.NDArray[Any]]
# the graph's two outputs, and the states after each row's last number
Result = tuple[Floats, npt.NDArray[Any], States]


class Signature(Protocol):
    """What a card says of its graph's tensors."""

    @property
    def inputs(self) -> list[TensorSpec]:
        """The sequences, and how long each is."""

    @property
    def outputs(self) -> list[TensorSpec]:
        """Two."""

    @property
    def states(self) -> list[StateSpec]:
        """What is carried."""


class Runner(ABC):
    """An exported graph in onnxruntime.

    Args:
        model: the file, or its content.
        signature: its tensors.
        threads: threads an operator may use.
    """

    def __init__(self, model: Path | bytes, signature: Signature, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        source = model if isinstance(model, bytes) else str(model)
        self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self._x, self._lengths = (tensor.name for tensor in signature.inputs)
        self._outputs = [tensor.name for tensor in signature.outputs]
        self._states = signature.states

    def run(self, x: Floats, lengths: Sequence[int] | None = None, states: States | None = None) -> Result:
        """Run once.

        Args:
            x: sequences [batch, size].
            lengths: how many of each row's numbers count; default all.
            states: to go on from; default the start.
        """
        batch, size = x.shape
        feeds = {
            self._x: x,
            self._lengths: np.asarray([size] * batch if lengths is None else lengths, np.int32),
        }
        feeds |= self.start(batch) if states is None else states
        names = [*self._outputs, *(state.output for state in self._states)]
        first, second, *after = self._session.run(names, feeds)
        carried = {state.name: value for state, value in zip(self._states, after, strict=True)}
        return first, second, carried

    def start(self, batch: int) -> States:
        """The states that mean "start"."""
        return {
            state.name: np.zeros([batch, *(int(size) for size in state.shape[1:])], state.dtype)
            for state in self._states
        }

    @abstractmethod
    def rows(self, result: Result, lengths: Sequence[int]) -> list[list[Floats]]:
        """What a result says of each row by itself: the probabilities [steps, classes] after every step
        within its length, then what it says of the whole, if anything.
        """


class DigitsRunner(Runner):
    """Pixels [batch, time] -> probabilities [batch, classes], trace [batch, time, classes]."""

    def rows(self, result: Result, lengths: Sequence[int]) -> list[list[Floats]]:
        """A step is a pixel."""
        probabilities, trace, _ = result
        return [[trace[row, :length], probabilities[row]] for row, length in enumerate(lengths)]

    def classify(self, pixels: Floats, batch_size: int = 64) -> npt.NDArray[np.int64]:
        """The most probable class of each row of `pixels` [count, time]."""
        chosen = [
            self.run(pixels[start : start + batch_size])[0].argmax(axis=1)
            for start in range(0, len(pixels), batch_size)
        ]
        return np.concatenate(chosen).astype(np.int64)


class FramesRunner(Runner):
    """Waveforms [batch, samples] -> probabilities [batch, frames, classes], how many frames count [batch]."""

    def rows(self, result: Result, lengths: Sequence[int]) -> list[list[Floats]]:
        """A step is a frame."""
        probabilities, frames, _ = result
        return [[probabilities[row, : frames[row]]] for row in range(len(lengths))]
