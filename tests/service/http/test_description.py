"""What the API's description says of keys and deadlines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.http.keys import Access, add
from tests.service.generated import check_generated


def operations(server: Any) -> dict[str, Any]:
    """By path, of all methods."""
    document = server.client.get("/openapi.json").json()
    return {
        f"{method} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_what_waits_for_a_model_may_be_told_how_long(small_server: Any) -> None:
    waiting = {
        name: parameter["schema"]
        for name, operation in operations(small_server).items()
        for parameter in operation.get("parameters", [])
        if parameter["name"] == "X-Request-Timeout"
    }
    assert waiting.keys() == {
        "post /v1/digits",
        "post /v1/frames",
        "post /v2/models/{model}/infer",
        "post /v2/models/{model}/versions/{version}/infer",
    }
    for schema in waiting.values():
        assert schema == {"type": "number", "exclusiveMinimum": 0, "maximum": 600}
    for name in waiting:
        assert {"400", "408", "504"} <= operations(small_server)[name]["responses"].keys()


@pytest.mark.parametrize("path", ["/v1/digits", "/v2/models/{model}/infer"])
def test_generated_deadlines_get_documented_answers(small_server: Any, path: str) -> None:
    check_generated(small_server, path)


def test_a_server_with_keys_says_what_needs_one(
    serve: Any, small_server: Any, small_store: Path, tmp_path: Path
) -> None:
    path = tmp_path / "keys.toml"
    key = add(path, "user", frozenset({Access.INFER}), None, None)
    with serve("--store", small_store, "--api-keys", path) as server:
        schemes = server.client.get("/openapi.json").json()["components"]["securitySchemes"]
        assert {
            name: {key: scheme.get(key) for key in ("type", "scheme", "in", "name")}
            for name, scheme in schemes.items()
        } == {
            "bearer": {"type": "http", "scheme": "bearer", "in": None, "name": None},
            "key": {"type": "apiKey", "scheme": None, "in": "header", "name": "X-API-Key"},
        }
        described = operations(server)
        free = {name for name, operation in described.items() if "security" not in operation}
        assert free == {"get /v2/health/live", "get /v2/health/ready", "get /v1/status", "get /metrics"}
        for name, operation in described.items():
            if name in free:
                continue
            assert operation["security"] == [{"bearer": []}, {"key": []}]
            assert {"401", "403", "429"} <= operation["responses"].keys()
            method, path_of = name.split(" ")
            assert server.client.request(method, path_of).status_code in (401, 426)
        server.client.headers["X-API-Key"] = key
        check_generated(server, "/v2", 10)
    assert not any("security" in operation for operation in operations(small_server).values())
