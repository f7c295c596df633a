"""GET /metrics, read by Prometheus' own parsers."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from websockets.sync.client import connect

from service.engine.statistics import FAILURES

Serve = Callable[..., Any]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

PAGE = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}


def families(server: Any) -> list[Metric]:
    response = server.client.get("/metrics")
    assert (response.status_code, response.headers["content-type"][:10]) == (200, "text/plain")
    return list(parse_text(response.text))


def samples(server: Any) -> Samples:
    found = [sample for family in families(server) for sample in family.samples]
    by_key = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in found}
    assert len(by_key) == len(found)  # no series twice
    return by_key


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def infer(server: Any, rows: int = 1, model: str = "digits", **parameters: Any) -> int:
    pixels = {"name": "pixels", "shape": [rows, 4], "datatype": "FP32", "data": [0.5] * 4 * rows}
    body = {"inputs": [pixels], "outputs": [{"name": "probabilities"}], "parameters": parameters}
    status: int = server.client.post(f"/v2/models/{model}/infer", json=body).status_code
    return status


def test_families_are_named_as_prometheus_wants_it(small_server: Any) -> None:
    found = families(small_server)
    names = [family.name for family in found]
    assert len(set(names)) == len(names)
    for family in found:
        assert re.fullmatch("(momentum|nv_inference|process)_[a-z_]+", family.name)
        assert family.documentation
        if family.name.startswith("momentum_"):
            assert family.type in ("counter", "gauge", "histogram")
            # Base units, and no type but a counter's in the name.
            assert not re.search("milli|micro|_ms|_us|kilo|mega|_mb|total|count", family.name)
        for sample in family.samples:
            endings = SUFFIXES.get(family.type, ("",))
            assert sample.name in {family.name + ending for ending in endings}


def test_the_page_lists_what_there_is(small_server: Any) -> None:
    infer(small_server)
    metrics, reasons = PAGE.read_text().split("### Why requests fail")
    rows = re.findall(r"^\| `([a-z_]+)` \| ([a-z]+) \| ([a-z, ]*)\|", metrics, re.MULTILINE)
    listed = {name: (kind, set(re.findall("[a-z]+", labels))) for name, kind, labels in rows}
    assert len(listed) == len(rows)
    assert set(re.findall(r"^\| `([a-z_]+)` \|", reasons, re.MULTILINE)) == set(FAILURES)
    exported = {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in families(small_server)
    }
    assert listed.keys() == exported.keys()
    for name, family in exported.items():
        kind, labels = listed[name]
        assert kind == family.type.replace("unknown", "untyped"), name
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == labels, name


def test_openmetrics_for_those_who_ask_for_it(small_server: Any) -> None:
    response = small_server.client.get("/metrics", headers={"Accept": OPENMETRICS})
    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    found = {family.name for family in parse_openmetrics(response.text)}
    assert {"momentum_requests", "momentum_device", "nv_inference_count"} <= found


def test_requests_are_counted_as_they_end(small_server: Any) -> None:
    digits = {"model": "digits", "version": "1"}
    before = samples(small_server)
    assert infer(small_server, rows=2) == 200
    assert infer(small_server) == 200
    assert infer(small_server, timeout=1) == 504  # one microsecond
    after = samples(small_server)

    def grown(name: str, **labels: str) -> float:
        found = key(name, **digits, **labels)
        return after[found] - before[found]

    assert grown("momentum_requests_total", outcome="success") == 2
    assert grown("momentum_requests_total", outcome="deadline") == 1
    assert grown("momentum_rows_total") == 3
    for name in ("request", "queue", "compute"):
        assert grown(f"momentum_{name}_duration_seconds_count") == 2
        assert grown(f"momentum_{name}_duration_seconds_bucket", le="+Inf") == 2
        assert grown(f"momentum_{name}_duration_seconds_sum") > 0
    assert grown("momentum_batch_rows_count") == 2
    assert grown("momentum_batch_rows_sum") == 3
    assert grown("momentum_batch_rows_bucket", le="1.0") == 1
    assert grown("momentum_batch_rows_bucket", le="2.0") == 2
    # and by Triton's names
    assert grown("nv_inference_request_success") == 2
    assert grown("nv_inference_request_failure", reason="REJECTED") == 1
    assert grown("nv_inference_count") == 3
    assert grown("nv_inference_exec_count") == 2
    whole = grown("nv_inference_request_duration_us")
    parts = grown("nv_inference_queue_duration_us") + grown("nv_inference_compute_infer_duration_us")
    assert whole == pytest.approx(parts, abs=4)  # each is rounded down
    assert after[key("nv_inference_pending_request_count", **digits)] == 0


def test_http_requests_are_counted_by_route(small_server: Any) -> None:
    before = samples(small_server)
    infer(small_server)
    for number in range(3):
        assert small_server.client.get(f"/nothing/{number}").status_code == 404
    assert small_server.client.delete("/v1/digits").status_code == 405
    refused = small_server.client.post("/v1/digits", headers={"X-Request-Timeout": "soon"})
    assert refused.status_code == 400  # before its route was looked for
    after = samples(small_server)
    name = "momentum_http_requests_total"
    route = "/v2/models/{model}/infer"
    for labels, count in (
        ({"route": route, "method": "POST", "status": "200"}, 1),
        ({"route": "none", "method": "other", "status": "404"}, 3),
        ({"route": "none", "method": "other", "status": "400"}, 1),
        ({"route": "/v1/digits", "method": "DELETE", "status": "405"}, 1),
    ):
        assert after[key(name, **labels)] - before.get(key(name, **labels), 0) == count
    seconds = "momentum_http_request_duration_seconds_count"
    assert after[key(seconds, route=route)] - before.get(key(seconds, route=route), 0) == 1


def test_streams_are_counted(small_server: Any) -> None:
    states = ("disconnected", "busy", "idle")

    def open_streams() -> float:
        found = samples(small_server)
        return sum(found[key("momentum_streams_open", kind="stream", state=state)] for state in states)

    def wait_for(streams: float) -> None:
        deadline = time.monotonic() + 30
        while open_streams() != streams:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    before, already = samples(small_server), open_streams()
    host, port = small_server.address
    start = {"type": "start", "encoding": "pcm16", "sample_rate": 8000}
    with connect(f"ws://{host}:{port}/v1/frames/stream", max_size=None) as socket:
        socket.send(json.dumps(start))
        socket.recv(timeout=30)
        wait_for(already + 1)
        socket.send(json.dumps({"type": "finish"}))
        while json.loads(socket.recv(timeout=30))["type"] != "result":
            pass
    wait_for(already)
    after = samples(small_server)
    for name, labels in (
        ("momentum_streams_opened_total", {"kind": "stream"}),
        ("momentum_streams_ended_total", {"kind": "stream", "reason": "finished"}),
    ):
        assert after[key(name, **labels)] - before[key(name, **labels)] == 1


def test_models_are_told_of_as_they_come_and_break(
    serve: Serve, tmp_path: Path, write_artifact: Callable[..., Path]
) -> None:
    store = tmp_path / "store"
    write_artifact(store)
    with serve("--store", store) as server:
        write_artifact(tmp_path / "staging", version="2")
        broken = write_artifact(tmp_path / "staging", version="3")
        (broken / "model.onnx").write_bytes(b"not a graph")
        for version in ("2", "3"):
            shutil.move(tmp_path / "staging" / "digits" / version, store / "digits" / version)
        deadline = time.monotonic() + 60
        ready = key("momentum_model_ready", model="digits", version="2")
        fault = key("momentum_model_broken", model="digits", version="3")
        while not {ready, fault} <= (found := samples(server)).keys():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert found[key("momentum_model_loads_total", outcome="loaded")] == 2
        assert found[key("momentum_model_loads_total", outcome="failed")] >= 1
        assert found[key("momentum_model_load_seconds_total")] > 0
        assert found[key("momentum_requests_total", model="digits", version="2", outcome="success")] == 0
        assert infer(server) == 200
        assert (
            samples(server)[key("momentum_requests_total", model="digits", version="2", outcome="success")]
            == 1
        )


def test_metrics_are_there_when_no_model_is(serve: Serve, small_store: Path) -> None:
    with serve("--store", small_store, "--local-admin") as server:
        assert infer(server) == 200
        for model in ("digits", "frames"):
            assert server.client.post(f"/v2/repository/models/{model}/unload").status_code == 200
        found = samples(server)
        assert key("momentum_model_ready", model="digits", version="1") not in found
        # What has been counted can still be read for a while.
        assert found[key("momentum_requests_total", model="digits", version="1", outcome="success")] == 1
        assert server.client.get("/v1/status").json()["models"] == []
