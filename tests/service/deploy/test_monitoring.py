"""Prometheus scrapes the service and understands the rules; dashboard and rules ask for what there is."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
PROMETHEUS = ROOT / "deploy" / "prometheus"
GROUPS = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
RULES = GROUPS[0]["rules"]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "momentum-serve.json").read_text())
SUFFIXES = ("_bucket", "_sum", "_count")

needs_prometheus = pytest.mark.skipif(
    shutil.which("promtool") is None or shutil.which("prometheus") is None,
    reason="there is no Prometheus: apt-get install prometheus",
)


def names(expression: str) -> set[str]:
    """The metrics that an expression asks for."""
    found = set(re.findall(r"\b(?:momentum|process|nv)_[a-z_]+", expression))
    return {name.removesuffix(next(filter(name.endswith, SUFFIXES), "")) for name in found}


def expressions() -> list[str]:
    """Those of the rules and of the dashboard."""
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [rule["expr"] for rule in RULES] + panels


def test_what_is_asked_for_is_there() -> None:
    documented = set(
        re.findall(r"^\| `([a-z_]+)` \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    )
    asked = set().union(*map(names, expressions()))
    assert len(asked) > 15
    assert asked <= documented


@needs_prometheus
@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "rules.yml"],
        ["test", "rules", "rules_test.yml"],
    ],
    ids=" ".join,
)
def test_promtool_is_content(arguments: list[str]) -> None:
    done = subprocess.run(
        ["promtool", *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_kubernetes_has_the_same_rules() -> None:
    """What stands in one file is copied to the other, two spaces deeper."""
    monitoring = ROOT / "deploy" / "kubernetes" / "components" / "monitoring"
    resource = yaml.safe_load((monitoring / "prometheus-rule.yaml").read_text())
    assert resource["spec"]["groups"] == GROUPS
    kustomization = yaml.safe_load((monitoring / "kustomization.yaml").read_text())
    assert set(kustomization["resources"]) == {"pod-monitor.yaml", "prometheus-rule.yaml"}


@pytest.mark.parametrize("fires", [True, False])
def test_each_rule_is_tested(fires: bool) -> None:
    """Where it fires, and where it does not."""
    tested = {
        test["alertname"]
        for group in yaml.safe_load((PROMETHEUS / "rules_test.yml").read_text())["tests"]
        for test in group["alert_rule_test"]
        if bool(test["exp_alerts"]) == fires
    }
    assert tested == {rule["alert"] for rule in RULES}


@needs_prometheus
def test_prometheus_scrapes_the_service(serve: Any, small_store: Path, tmp_path: Path) -> None:
    """With the rules, and asked for everything that the dashboard shows."""
    with serve("--store", small_store) as server:
        server.client.post("/v1/digits", json={"pixels": [0, 255] * 392}).raise_for_status()
        look(server, tmp_path)


def look(server: Any, tmp_path: Path) -> None:
    """Let Prometheus scrape a server that has answered one request."""
    scrape = {
        "job_name": "momentum-serve",
        "static_configs": [{"targets": [server.url.removeprefix("http://")]}],
    }
    config = {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}}
    config |= {"rule_files": [str(PROMETHEUS / "rules.yml")], "scrape_configs": [scrape]}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        "prometheus",
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--web.listen-address={address}",
    ]
    command += [f"--storage.tsdb.path={tmp_path / 'data'}", "--log.level=error"]
    process = subprocess.Popen(command)
    try:
        with httpx.Client(base_url=f"http://{address}", trust_env=False) as prometheus:
            wait_for(prometheus, "momentum_ready", "1")
            wait_for(prometheus, 'sum(momentum_requests_total{outcome="success"})', "1")
            for expression in expressions():
                asked = expression.replace("$instance", ".*")
                answer = prometheus.get("/api/v1/query", params={"query": asked}).json()
                assert answer["status"] == "success", answer
            for metric in ("process_start_time_seconds", "momentum_store_readable"):
                wait_for(prometheus, f'count({metric}{{job="momentum-serve"}})', "1")
            rules = evaluated(prometheus)
            assert {rule["name"] for rule in rules} == {rule["alert"] for rule in RULES}
            assert {(rule["health"], rule["state"]) for rule in rules} == {("ok", "inactive")}
    finally:
        process.terminate()
        process.wait(timeout=30)


def evaluated(prometheus: httpx.Client) -> list[dict[str, Any]]:
    """The rules, once they have been evaluated with what has been scraped by now. Before anything was, they
    found nobody there.
    """
    begun, end = time.time(), time.monotonic() + 60
    while True:
        (group,) = prometheus.get("/api/v1/rules").json()["data"]["groups"]
        if datetime.fromisoformat(group["lastEvaluation"]).timestamp() > begun:
            rules: list[dict[str, Any]] = group["rules"]
            return rules
        assert time.monotonic() < end, group
        time.sleep(0.2)


def wait_for(prometheus: httpx.Client, query: str, value: str) -> None:
    """Until a query has one answer, which is this."""
    end = time.monotonic() + 60
    while True:
        try:
            found = prometheus.get("/api/v1/query", params={"query": query}).json()["data"]["result"]
            if [sample["value"][1] for sample in found] == [value]:
                return
        except (httpx.TransportError, KeyError):
            found = None
        assert time.monotonic() < end, f"{query}: {found}"
        time.sleep(0.2)
