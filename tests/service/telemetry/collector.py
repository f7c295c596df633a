"""An OTLP/HTTP collector that keeps what it gets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """What arrived so far.

    Attributes:
        url: for OTEL_EXPORTER_OTLP_ENDPOINT.
        asked: how many times somebody sent spans.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.asked = 0
        self._requests: list[ExportTraceServiceRequest] = []

    def take(self, path: str, body: bytes) -> None:
        """Keep the spans of a request's body."""
        assert path == "/v1/traces"
        self.asked += 1
        self._requests.append(ExportTraceServiceRequest.FromString(body))

    @property
    def resource(self) -> dict[str, Any]:
        """Attributes of who sent the first spans."""
        return attributes(self._requests[0].resource_spans[0].resource)

    @property
    def spans(self) -> list[Span]:
        """In the order of their ends."""
        spans = [
            span
            for request in self._requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        return sorted(spans, key=lambda span: span.end_time_unix_nano)

    def wait_for(self, enough: Callable[[list[Span]], bool]) -> list[Span]:
        """The spans, when they are enough."""
        deadline = time.monotonic() + 60
        while not enough(self.spans):
            assert time.monotonic() < deadline, [span.name for span in self.spans]
            time.sleep(0.02)
        return self.spans


def attributes(owner: Any) -> dict[str, Any]:
    """A span's, a resource's or an event's, as plain values."""

    def plain(value: Any) -> Any:
        kind = value.WhichOneof("value")
        found = getattr(value, kind)
        return [plain(one) for one in found.values] if kind == "array_value" else found

    return {attribute.key: plain(attribute.value) for attribute in owner.attributes}


@contextmanager
def collecting(status: int | None = 200) -> Iterator[Collector]:
    """A collector that answers with this status, or never."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            if status is None:
                over.wait(60)
            else:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        collector = Collector(server.server_port)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            over.set()
            server.shutdown()
            thread.join()
