"""The headers of every answer, and CORS where it is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
POLICY = "content-security-policy"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/health/live", 200),
        ("GET", "/metrics", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/nothing", 404),
        ("POST", "/v1/digits", 422),
        ("GET", "/v1/frames/stream", 426),
        ("GET", "/v2/models/none", 404),
    ],
)
def test_answers_are_not_for_showing_or_framing(
    small_server: Any, method: str, path: str, status: int
) -> None:
    response = small_server.client.request(method, path)
    assert response.status_code == status
    assert {name: response.headers[name] for name in ALWAYS} == ALWAYS
    assert response.headers[POLICY] == "default-src 'none'; frame-ancestors 'none'"
    assert len(response.headers.get_list(POLICY)) == 1
    assert len(response.headers.get_list("x-request-id")) == 1


@pytest.mark.parametrize(("path", "scripts"), [("/", "'self'"), ("/docs", "'self' 'unsafe-inline'")])
def test_pages_have_policies_of_their_own(small_server: Any, path: str, scripts: str) -> None:
    response = small_server.client.get(path)
    policies = response.headers.get_list(POLICY)
    assert len(policies) == 1
    assert "default-src 'none'; " in policies[0]
    assert f"script-src {scripts};" in policies[0]
    assert "frame-ancestors 'none'" in policies[0]
    assert {name: response.headers[name] for name in ALWAYS} == ALWAYS


def preflight(server: Any, origin: str) -> Any:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type, x-request-timeout",
    }
    return server.client.options("/v1/digits", headers=asked)


def test_pages_of_elsewhere_may_not(small_server: Any) -> None:
    assert preflight(small_server, "https://page.example").status_code == 405
    response = small_server.client.get("/v2", headers={"Origin": "https://page.example"})
    assert not [name for name in response.headers if name.startswith("access-control-")]


def test_unless_the_settings_say_so(serve: Any, small_store: Path, tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text("")
    with serve(
        "--store",
        small_store,
        "--api-keys",
        tmp_path / "keys.toml",
        "--cors-origins",
        "https://page.example,https://other.example",
    ) as server:
        allowed = preflight(server, "https://page.example")  # which never has a key
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == "https://page.example"
        assert preflight(server, "https://evil.example").status_code == 400
        refused = server.client.get("/v2", headers={"Origin": "https://other.example"})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://other.example"
        assert "X-Request-ID" in refused.headers["access-control-expose-headers"]
