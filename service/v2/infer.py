"""POST /v2/models/{model}/infer."""

from __future__ import annotations

import time

from fastapi import Request, Response
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from service.engine import Engine, Model, Tensor
from service.http.deadline import deadline
from service.http.problems import StatusProblem
from service.http.routes import while_connected
from service.http.uploads import read_body
from service.http.words import quote
from service.streams.sequences import Sequences
from service.v2.errors import InvalidRequestError
from service.v2.message import parse
from service.v2.parameters import Parameters, SequenceStep
from service.v2.request import InferRequest, read
from service.v2.response import render
from service.v2.signature import Signatures

HEADER_LENGTH = "Inference-Header-Content-Length"
_HEADER_LENGTH = HEADER_LENGTH.lower().encode()


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
        length = None
        for name, value in request.scope["headers"]:
            if name == _HEADER_LENGTH:
                length = value.decode("latin-1")
            elif name == b"content-encoding" and value.lower() != b"identity":
                raise StatusProblem(
                    415, f"the body has the content encoding {quote(value.decode('latin-1'))}; expected none"
                )
        body = await read_body(request)
        admitted = time.monotonic()
        message = parse(body, length)
        path = request.path_params
        owner = request.scope.get("momentum.key", "")
        parameters = message.parameters
        model = self._model(path["model"], path.get("version"), parameters.sequence, owner)
        signature = self._signatures.of(model)
        asked = read(message, signature)
        del body, message  # of what was sent, only tensors wait: the engine's limits count nothing else
        timeout = parameters.timeout
        when = deadline(request) if timeout is None else min(deadline(request), admitted + timeout)
        outputs = await while_connected(request, self._run(model, asked, parameters, owner, when))
        answer, length_of_json = render(asked, signature, outputs)
        if length_of_json is None:
            return Response(answer, media_type="application/json")
        return Response(
            answer, headers={HEADER_LENGTH: str(length_of_json)}, media_type="application/octet-stream"
        )

    def _model(self, name: str, version: str | None, step: SequenceStep | None, owner: str) -> Model:
        """The model that answers: a sequence keeps to the version on which it began."""
        if step is None or step.start:
            return self._engine.model(name, version)
        return self._sequences.model(name, step.id, owner=owner, version=version)

    async def _run(
        self, model: Model, asked: InferRequest, parameters: Parameters, owner: str, when: float
    ) -> dict[str, Tensor]:
        priority = parameters.priority
        step = parameters.sequence
        try:
            if step is None:
                return await self._engine.infer(
                    model, asked.inputs, asked.outputs, deadline=when, priority=priority
                )
            return await self._sequences.infer(
                model,
                step.id,
                asked.inputs,
                asked.outputs,
                start=step.start,
                end=step.end,
                owner=owner,
                deadline=when,
                priority=priority,
            )
        except (ort_errors.Fail, ort_errors.InvalidArgument, ort_errors.RuntimeException) as error:
            states = [repr(state.name) for state in model.card.states if state.name in asked.inputs]
            if not states:
                raise
            raise InvalidRequestError(
                f"the model does not run from what is given as {', '.join(states)}; expected a state that an "
                "output of it was"
            ) from error
