"""OpenTelemetry traces, when the environment says where to send them (OTEL_EXPORTER_OTLP_ENDPOINT): FastAPI's
span of each request, which continues the client's trace, and within it those of the queue and of the lanes.

Live streams are not traced: an hour of one would be a trace of thousands of spans.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import MutableMapping
from importlib.metadata import version
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import structlog
from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode

from service.engine import Request
from service.engine.batching import Piece
from service.engine.observer import Refusal

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

# FastAPI would also trace its own steps, and send metrics and logs, which we have of our own.
OFF: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_UNTRACED = ("/v2/health/", "/metrics")  # asked all the time
_FLUSH_SECONDS = 5.0


class TracingError(RuntimeError):
    """Traces are wanted but can't be sent; the message says what to do."""


class Tracing:
    """Sends traces.

    Args:
        provider: of OpenTelemetry's SDK.

    Attributes:
        config: for FastAPI.
        spans: observes the engine.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self.config: TelemetryConfig = OFF | {
            "tracing": True,
            "tracer_provider": provider,
            "exclude": _untraced,
        }
        self.spans = EngineSpans(provider.get_tracer("momentum-serve", version("momentum-serve")))
        self._provider = provider

    @classmethod
    def from_environment(cls) -> Self | None:
        """As OpenTelemetry's variables say; None, and nothing imported, if they name no endpoint.

        Raises:
            TracingError: there is an endpoint, but not what is needed to send to it.
        """
        set_ = next((name for name in _ENDPOINTS if os.environ.get(name)), None)
        off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
        if set_ is None or off or os.environ.get("OTEL_TRACES_EXPORTER") == "none":
            return None
        chosen = next((name for name in _PROTOCOLS if os.environ.get(name)), None)  # that of traces wins
        if chosen is not None and os.environ[chosen] != _PROTOCOL:
            raise TracingError(f"{chosen} is {os.environ[chosen]}; traces are sent by {_PROTOCOL}: set that")
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import OTELResourceDetector, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise TracingError(
                f"{set_} is set, but OpenTelemetry's SDK is not installed ({error}): in the project's "
                "folder, pip install -e '.[tracing]', or unset the variable"
            ) from error
        ours = {"service.name": "momentum-serve", "service.version": version("momentum-serve")}
        resource = Resource.create(ours).merge(OTELResourceDetector().detect())
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what has not been sent, but do not wait long for a collector that is not there."""
        thread = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        thread.start()
        await asyncio.to_thread(thread.join, _FLUSH_SECONDS)


class EngineSpans:
    """An observer that adds to a request's span those of the time that it waited and ran in the engine.

    Args:
        tracer: makes the spans.
    """

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer
        self._traced: dict[Request, tuple[Context, list[int]]] = {}  # the rows of the batches that it ran in

    def admitted(self, request: Request) -> None:
        """See `Observer`."""
        span = trace.get_current_span()
        if span.is_recording():
            # The log has the same id.
            request_id = structlog.contextvars.get_contextvars().get("request_id", "")
            span.set_attribute("momentum.request_id", request_id)
            self._traced[request] = trace.set_span_in_context(span), []

    def rejected(self, request: Request, reason: Refusal) -> None:
        """See `Observer`."""
        attributes = {"momentum.model": request.layout.model.card.name, "momentum.reason": reason}
        trace.get_current_span().add_event("rejected", attributes)

    def ran(self, pieces: list[Piece], seconds: float, error: Exception | None) -> None:  # noqa: ARG002
        """See `Observer`."""
        rows = sum([piece.rows for piece in pieces])
        for piece in pieces:
            if (traced := self._traced.get(piece.request)) is not None:
                traced[1].append(rows)

    def ended(self, request: Request, error: Exception | None) -> None:
        """See `Observer`."""
        traced = self._traced.pop(request, None)
        if traced is None:
            return
        context, batches = traced
        epoch = time.time_ns() - time.monotonic_ns()  # read anew, as the time of day may be set
        admitted, started, ended = (
            None if when is None else epoch + int(1e9 * when)
            for when in (request.admitted, request.started, request.ended)
        )
        card = request.layout.model.card
        last = self._tracer.start_span("queue", context, start_time=admitted)
        if started is not None:
            last.end(started)
            last = self._tracer.start_span("compute", context, start_time=started)
            last.set_attribute("momentum.batches", batches)
        last.set_attributes(
            {"momentum.model": card.name, "momentum.version": card.version, "momentum.rows": request.rows}
        )
        if error is not None:
            _fail(last, error)
        last.end(ended)


def _fail(span: Span, error: Exception) -> None:
    span.set_attribute("error.type", type(error).__name__)
    span.set_status(Status(StatusCode.ERROR, str(error)))


def _untraced(scope: MutableMapping[str, Any]) -> bool:
    path: str = scope["path"]
    return scope["type"] == "websocket" or path.startswith(_UNTRACED)
