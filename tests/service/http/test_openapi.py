"""The API's description is true: its examples work, and generated requests get documented answers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from schemathesis.openapi.loaders import from_url

from tests.service.generated import check_generated, check_operation

IMAGES = Path(__file__).resolve().parents[3] / "docs" / "images"


@pytest.fixture(scope="module")
def description(server: Any) -> dict[str, Any]:
    document: dict[str, Any] = server.client.get("/openapi.json").json()
    return document


def test_every_operation_has_a_summary_a_description_and_documented_errors(
    description: dict[str, Any],
) -> None:
    operations = {
        f"{method} {path}": operation
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    }
    assert set(operations) == {
        "post /v1/digits",
        "post /v1/frames",
        "get /v1/frames/stream",
        "get /v1/streams/{stream}/state",
        "put /v1/streams/{stream}/state",
        "get /v2/health/live",
        "get /v2/health/ready",
        "get /v1/status",
        "get /metrics",
        "get /v2",
        "post /v2/repository/index",
        "post /v2/repository/models/{model}/load",
        "post /v2/repository/models/{model}/unload",
        "get /v2/models/stats",
        *(
            f"{method} /v2/models/{{model}}{version}{ending}"
            for version in ("", "/versions/{version}")
            for method, ending in (
                ("post", "/infer"),
                ("get", ""),
                ("get", "/ready"),
                ("get", "/config"),
                ("get", "/stats"),
            )
        ),
    }
    assert all(operation["summary"] and operation["description"] for operation in operations.values())
    digits = operations["post /v1/digits"]
    assert set(digits["requestBody"]["content"]) == {"application/json", "multipart/form-data", "image/*"}
    frames = operations["post /v1/frames"]
    assert set(frames["requestBody"]["content"]) == {"multipart/form-data", "audio/*"}
    assert set(frames["responses"]["200"]["content"]) == {"application/json", "text/csv", "text/plain"}
    for operation in (digits, frames):
        for status in ("400", "404", "413", "415", "422", "500"):
            assert set(operation["responses"][status]["content"]) == {"application/problem+json"}


def test_the_json_examples_work(server: Any, description: dict[str, Any]) -> None:
    body = description["paths"]["/v1/digits"]["post"]["requestBody"]
    examples = body["content"]["application/json"]["examples"]
    one = server.client.post("/v1/digits", json=examples["one digit"]["value"]).json()
    assert one["digit"] == 7
    batch = server.client.post("/v1/digits", json=examples["a batch"]["value"]).json()
    assert [prediction["digit"] for prediction in batch["predictions"]] == [7, 2]


def test_the_commands_work(server: Any, description: dict[str, Any]) -> None:
    lines = description["paths"]["/v1/digits"]["post"]["description"].splitlines()
    commands = [line.strip() for line in lines if line.strip().startswith("curl ")]
    assert len(commands) == 2
    for command in commands:
        assert "http://127.0.0.1:8000" in command
        here = command.replace("http://127.0.0.1:8000", server.url).split()
        ended = subprocess.run([*here, "--silent"], cwd=IMAGES, capture_output=True, check=True, timeout=60)
        assert json.loads(ended.stdout)["digit"] == 7


@pytest.mark.parametrize("path", ["/v1/digits", "/v1/frames", "/v2/health/live", "/v2/health/ready"])
def test_generated_requests_get_documented_answers(small_server: Any, path: str) -> None:
    check_generated(small_server, path)


def test_no_operation_fails_whatever_it_is_sent(serve: Any, small_store: Path) -> None:
    """All that the document has, so that what is new is tested too; some of it is tested longer elsewhere."""
    with serve("--store", small_store, "--max-body-bytes", 200_000, "--local-admin") as server:
        schema = from_url(f"{server.url}/openapi.json")
        operations = [found.ok() for found in schema.get_all_operations()]
        assert len(operations) == sum(map(len, schema.raw_schema["paths"].values()))
        for operation in operations:
            # What is unloaded answers 503.
            model = "letters" if operation.path.endswith("/unload") else "digits"
            check_operation(operation, 10, {"model": model, "version": "1"})
        assert server.client.get("/v2/health/ready").json()["problems"] == []
        assert not [line for line in server.log() if line["level"] == "error"]
