"""Sessions that run with their inputs and outputs bound, as on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray


class Session(Protocol):
    """What the engine needs of onnxruntime's sessions."""

    def run(
        self, outputs: list[str], feeds: Mapping[str, NDArray[Any]], options: onnxruntime.RunOptions
    ) -> list[NDArray[Any]]:
        """Run the graph, for these outputs."""

    def get_inputs(self) -> list[Any]:
        """Their names, types and shapes."""

    def get_outputs(self) -> list[Any]:
        """Theirs."""

    def get_providers(self) -> list[str]:
        """What runs it, the first choice first."""


class BoundSession:
    """A session that is run through its `io_binding`: each input is copied once, to where
    the operators that read it want it (lengths stay on the CPU), and of the outputs each once from the
    device. A run that fails raises; `InferenceSession.run` would have a way to try elsewhere.

    States of streams come and go with each run, like other tensors: they are small, and a stream may go on
    in another batch, or on another server.

    Args:
        session: is run by one thread at a time.
    """

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session

    def run(
        self, outputs: list[str], feeds: Mapping[str, NDArray[Any]], options: onnxruntime.RunOptions
    ) -> list[NDArray[Any]]:
        """See `Session`."""
        binding = self._session.io_binding()
        for name, tensor in feeds.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(tensor))
        for name in outputs:
            binding.bind_output(name)  # on the CPU
        self._session.run_with_iobinding(binding, options)
        answers: list[NDArray[Any]] = binding.copy_outputs_to_cpu()
        return answers

    def get_inputs(self) -> list[Any]:
        """See `Session`."""
        inputs: list[Any] = self._session.get_inputs()
        return inputs

    def get_outputs(self) -> list[Any]:
        """See `Session`."""
        outputs: list[Any] = self._session.get_outputs()
        return outputs

    def get_providers(self) -> list[str]:
        """See `Session`."""
        providers: list[str] = self._session.get_providers()
        return providers
