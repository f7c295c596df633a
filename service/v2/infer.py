"""POST /v2/models/{model}/infer."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from functools import partial

from fastapi import Request, Response
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors
from starlette.types import Scope

from service.engine import Engine, Model, Tensor
from service.engine.batching import Answer
from service.http.deadline import deadline
from service.http.problems import StatusProblem
from service.http.routes import Done, Leave, answer, in_task, rendered, while_connected
from service.http.uploads import read_body
from service.http.words import quote
from service.streams.sequences import Sequences
from service.v2.errors import InvalidRequestError
from service.v2.message import parse
from service.v2.parameters import SequenceStep
from service.v2.request import InferRequest, read
from service.v2.response import render
from service.v2.signature import Signature, Signatures

HEADER_LENGTH = "Inference-Header-Content-Length"
_HEADER_LENGTH = HEADER_LENGTH.lower().encode()
_RUN_ERRORS = (ort_errors.Fail, ort_errors.InvalidArgument, ort_errors.RuntimeException)


class Inference:
    """The endpoint.

    Args:
        engine: runs the models.
        sequences: of requests that share a state.
        signatures: of the models.
    """

    def __init__(self, engine: Engine, sequences: Sequences, signatures: Signatures) -> None:
        self._engine = engine
        self._sequences = sequences
        self._signatures = signatures

    async def infer(self, request: Request) -> Response:
        """Run a model on tensors. The body is JSON, or JSON with the tensors' bytes behind it, or, with
        `Inference-Header-Content-Length: 0`, the bytes alone of the model's one input:

            curl --header 'Inference-Header-Content-Length: 0' --data-binary @seven.f32 \\
                http://127.0.0.1:8000/v2/models/digits/infer

        States of the model may be given as inputs, and asked for as outputs. `lengths`, how much of each row
        counts, may be left out.
        """
        _length(request.scope)  # before the body is read
        body = await read_body(request)
        work = answer(partial(self.begin, request.scope, body))
        del body
        return await while_connected(request, work)

    def begin(self, scope: Scope, body: bytes, done: Done) -> Leave:
        """See `Shortcut`."""
        admitted = time.monotonic()
        message = parse(body, _length(scope))
        path = scope["path_params"]
        owner = scope.get("momentum.key", "")
        parameters = message.parameters
        model = self._model(path["model"], path.get("version"), parameters.sequence, owner)
        signature = self._signatures.of(model)
        asked = read(message, signature)
        del body, message  # of what was sent, only tensors wait: the engine's limits count nothing else
        when = deadline(scope)
        if parameters.timeout is not None:
            when = min(when, admitted + parameters.timeout)
        if (step := parameters.sequence) is not None:
            outputs = self._sequences.infer(
                model,
                step.id,
                asked.inputs,
                asked.outputs,
                start=step.start,
                end=step.end,
                owner=owner,
                deadline=when,
                priority=parameters.priority,
            )
            return in_task(_wait(outputs, model, asked, signature), done)

        def answered(outputs: Answer) -> None:
            if isinstance(outputs, _RUN_ERRORS):
                outputs = _blame(model, asked, outputs)
            rendered(done, outputs, partial(_respond, asked, signature))

        priority = parameters.priority
        request = self._engine.submit(
            model, asked.inputs, asked.outputs, answered, deadline=when, priority=priority
        )
        return partial(self._engine.cancel, request)

    def _model(self, name: str, version: str | None, step: SequenceStep | None, owner: str) -> Model:
        """The model that answers: a sequence keeps to the version on which it began."""
        if step is None or step.start:
            return self._engine.model(name, version)
        return self._sequences.model(name, step.id, owner=owner, version=version)


async def _wait(
    outputs: Awaitable[dict[str, Tensor]], model: Model, asked: InferRequest, signature: Signature
) -> Response:
    try:
        return _respond(asked, signature, await outputs)
    except _RUN_ERRORS as error:
        raise _blame(model, asked, error) from error


def _length(scope: Scope) -> str | None:
    """The header that says how much of the body is JSON.

    Raises:
        StatusProblem: the body is compressed.
    """
    length = None
    for name, value in scope["headers"]:
        if name == _HEADER_LENGTH:
            length = value.decode("latin-1")
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise StatusProblem(
                415, f"the body has the content encoding {quote(value.decode('latin-1'))}; expected none"
            )
    return length


def _respond(asked: InferRequest, signature: Signature, outputs: dict[str, Tensor]) -> Response:
    content, length = render(asked, signature, outputs)
    if length is None:
        return Response(content, media_type="application/json")
    return Response(content, headers={HEADER_LENGTH: str(length)}, media_type="application/octet-stream")


def _blame(model: Model, asked: InferRequest, error: Exception) -> Exception:
    """Whose fault it is that a model did not run: that of states which were sent, if there were any."""
    states = [repr(state.name) for state in model.card.states if state.name in asked.inputs]
    if not states:
        return error
    return InvalidRequestError(
        f"the model does not run from what is given as {', '.join(states)}; expected a state that an output "
        "of it was"
    )
