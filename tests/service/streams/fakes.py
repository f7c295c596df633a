"""An engine that runs when told to."""

from __future__ import annotations

from typing import Any

import numpy as np

from service.engine.batching import Answer, Layout, Piece, Request
from service.engine.store import Model


class FakeEngine:
    """Runs requests when told to."""

    def __init__(self, model: Model) -> None:
        self.layout = Layout(model, 16)
        self.waiting: list[Request] = []

    def submit(
        self, model: Model, inputs: Any, outputs: Any, done: Any, *, priority: int, bounded: bool
    ) -> Request:
        assert model is self.layout.model
        assert (priority, bounded) == (1, False)
        self.waiting.append(Request(self.layout, inputs, outputs, done))
        return self.waiting[-1]

    def cancel(self, request: Request) -> None:
        self.waiting.remove(request)

    def run(self) -> None:
        """Answer what waits."""
        waiting, self.waiting = self.waiting, []
        for request in waiting:
            # As in a batch: what is answered are views.
            other = {name: np.zeros_like(tensor) for name, tensor in request.inputs.items()}
            both = [piece(request), piece(Request(self.layout, other, request.outputs, request.done))]
            outputs = self.layout.model.run(self.layout.stack(both), request.outputs)
            request.done(self.layout.split(both, outputs)[0])
            for tensor in outputs.values():
                tensor[:] = -1  # nothing of the batch may be needed any more

    def answer(self, answer: Answer) -> None:
        """Answer the only request that waits."""
        (request,) = self.waiting
        self.waiting = []
        request.done(answer)


def piece(request: Request) -> Piece:
    """All rows of a request."""
    return Piece(request, 0, request.rows)
