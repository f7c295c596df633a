"""Traces, sent by a server to a collector here."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from service.telemetry.tracing import Tracing
from tests.service.telemetry.collector import attributes, collecting

Serve = Callable[..., Any]

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
MOST_PIXELS = {"name": "pixels", "shape": [1, 200], "datatype": "FP32", "data": [1] * 200}  # too many


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans are sent within milliseconds."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")


def ask(server: Any, *, sampled: bool = True, **body: Any) -> tuple[int, str]:
    """Run digits as part of the trace; the status and the request's id."""
    pixels = {"name": "pixels", "shape": [2, 4], "datatype": "FP32", "data": [0.5] * 8}
    traced = {"traceparent": f"00-{TRACE}-{PARENT}-0{int(sampled)}"}
    response = server.client.post("/v2/models/digits/infer", json={"inputs": [pixels]} | body, headers=traced)
    return response.status_code, response.headers["x-request-id"]


def is_request(spans: list[Span]) -> bool:
    """Whether a request is among them; its parts end before it."""
    return any(span.kind == Span.SPAN_KIND_SERVER for span in spans)


def test_a_request_is_a_span_of_its_clients_trace(
    serve: Serve, small_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting() as collector:
        monkeypatch.setenv(ENDPOINT, collector.url)
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        with serve("--store", small_store) as server:
            status, request_id = ask(server)
            assert status == 200
            queue, compute, whole = collector.wait_for(is_request)
        assert {span.trace_id.hex() for span in (queue, compute, whole)} == {TRACE}
        assert whole.parent_span_id.hex() == PARENT
        assert whole.name == "POST /v2/models/{model}/infer"
        about = attributes(whole)
        assert about["http.route"] == "/v2/models/{model}/infer"
        assert about["http.response.status_code"] == 200
        assert about["momentum.request_id"] == request_id
        assert (queue.name, compute.name) == ("queue", "compute")
        assert queue.parent_span_id == compute.parent_span_id == whole.span_id
        model = {"momentum.model": "digits", "momentum.version": "1", "momentum.rows": 2}
        assert attributes(compute) == model | {"momentum.batches": [2]}
        assert whole.start_time_unix_nano <= queue.start_time_unix_nano
        assert queue.end_time_unix_nano == compute.start_time_unix_nano
        assert compute.end_time_unix_nano <= whole.end_time_unix_nano
        sender = collector.resource
        assert (sender["service.name"], sender["deployment.environment.name"]) == ("momentum-serve", "test")


def test_what_goes_wrong_is_told(
    serve: Serve, tmp_path: Path, write_artifact: Callable[..., Path], fragile_graph: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    write_artifact(tmp_path, graph=fragile_graph)
    with collecting() as collector:
        monkeypatch.setenv(ENDPOINT, collector.url)
        with serve("--store", tmp_path) as server:
            assert ask(server, inputs=[MOST_PIXELS])[0] == 500
            _, compute, whole = collector.wait_for(is_request)
            assert ask(server, parameters={"timeout": 1})[0] == 504  # one microsecond
            spans = collector.wait_for(lambda spans: sum(span.name == whole.name for span in spans) == 2)
        for span in (compute, whole):
            assert span.status.code == Status.STATUS_CODE_ERROR
            assert attributes(span)["error.type"]
        late = spans[-1]
        told = [attributes(event)["momentum.reason"] for event in late.events]
        dropped = [attributes(span)["error.type"] for span in spans[3:-1]]
        assert (told, dropped) in (([], ["DeadlineExceededError"]), (["deadline"], []))


def test_what_is_not_traced(serve: Serve, small_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        monkeypatch.setenv(ENDPOINT, collector.url)
        with serve("--store", small_store) as server:
            assert server.client.get("/v2/health/live").status_code == 200
            assert server.client.get("/metrics").status_code == 200
            assert ask(server, sampled=False)[0] == 200  # the client's decision
            assert server.client.get("/v1/status").status_code == 200
            assert server.stop() == 0  # which sends what there is
        assert [span.name for span in collector.spans] == ["GET /v1/status"]


@pytest.mark.parametrize("status", [503, None])
def test_a_broken_collector_harms_no_request(
    serve: Serve, small_store: Path, monkeypatch: pytest.MonkeyPatch, status: int | None
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with collecting(status) as collector:
        monkeypatch.setenv(ENDPOINT, collector.url)
        with serve("--store", small_store) as server:
            assert ask(server)[0] == 200
            collector.wait_for(is_request)
            assert ask(server)[0] == 200
            assert server.stop() == 0


def test_a_collector_that_is_not_there_harms_no_request(
    serve: Serve, small_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with serve("--store", small_store) as server:
        assert ask(server)[0] == 200
        assert server.stop() == 0


def start(code: str = "") -> tuple[int, str]:
    """Start a server that is expected to give up; its exit status and the reason in its log."""
    code += "\nimport sys; sys.argv = ['service', '--port', '0']\nfrom service.__main__ import main\nmain()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    line = json.loads(ended.stderr.splitlines()[-1])
    return ended.returncode, line["reason"]


def test_an_endpoint_without_the_sdk_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:4318")
    status, reason = start("import sys; sys.modules['opentelemetry.sdk.trace'] = None")
    assert status == 1
    assert reason.startswith(f"{ENDPOINT} is set, but OpenTelemetry's SDK is not installed")
    assert "pip install -e '.[tracing]'" in reason


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"])
def test_another_protocol_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:4317")
    monkeypatch.setenv(name, "grpc")
    assert start() == (1, f"{name} is grpc; traces are sent by http/protobuf: set that")


@pytest.mark.parametrize(
    ("general", "of_traces"),
    [("grpc", "http/protobuf"), ("http/protobuf", ""), ("", ""), ("", "http/protobuf")],
)
def test_the_protocol_of_traces_wins_and_an_empty_one_is_none(
    monkeypatch: pytest.MonkeyPatch, general: str, of_traces: str
) -> None:
    """As the specification of OpenTelemetry's environment variables has it."""
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:4318")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", general)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", of_traces)
    tracing = Tracing.from_environment()
    assert tracing is not None

    async def end() -> None:
        async with tracing:
            pass

    asyncio.run(end())


@pytest.mark.parametrize("environment", [{}, {"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_nothing_is_loaded_if_nothing_is_traced(
    monkeypatch: pytest.MonkeyPatch, small_store: Path, environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
        monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:4318")
    code = (
        "import sys; from pathlib import Path; from service import Settings, create_app\n"
        f"create_app(Settings(store=Path({str(small_store)!r})))\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk')])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout.splitlines()[-1] == "[]"
