"""Who may do what, on a server with keys, and without."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import websockets
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from service.http.access import AccessControl, is_admin
from service.http.counts import RequestCounts
from service.http.keys import Access, Keys, add
from service.http.middleware import RequestContext
from service.http.refusals import Refusals
from tests.service.faults.load import wait_until

PIXELS = {"pixels": [0, 1] * 392}


class Guarded:
    """A server with keys."""

    def __init__(self, server: Any, path: Path, keys: dict[str, str]) -> None:
        self.server = server
        self.path = path
        self.keys = keys


@pytest.fixture(scope="module")
def guarded(serve: Any, small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    path = tmp_path_factory.mktemp("keys") / "keys.toml"
    keys = {
        "user": add(path, "user", frozenset({Access.INFER}), None, None),
        "admin": add(path, "admin", frozenset({Access.ADMIN}), None, None),
        "slow": add(path, "slow", frozenset({Access.INFER}), 0.001, 2),
    }
    with serve("--store", small_store, "--api-keys", path) as server:
        yield Guarded(server, path, keys)


@pytest.mark.parametrize(
    "path",
    ["/", "/docs", "/openapi.json", "/metrics", "/v1/status", "/v2/health/live", "/v2/health/ready"],
)
def test_probes_and_pages_need_no_key(guarded: Guarded, path: str) -> None:
    assert guarded.server.client.get(path).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/digits"),
        ("POST", "/v1/frames"),
        ("GET", "/v2"),
        ("GET", "/v2/models/digits"),
        ("POST", "/v2/models/digits/infer"),
        ("POST", "/v2/repository/index"),
        ("GET", "/v2/health"),
        ("GET", "/docsx"),
        ("GET", "/nothing"),
    ],
)
@pytest.mark.parametrize("sent", [{}, {"X-API-Key": "momentum-unknown"}, {"Authorization": "Basic dTpw"}])
def test_all_else_needs_one(guarded: Guarded, method: str, path: str, sent: dict[str, str]) -> None:
    response = guarded.server.client.request(method, path, headers=sent)
    assert response.status_code == 401
    unknown = "X-API-Key" in sent
    assert response.headers["www-authenticate"] == ('Bearer error="invalid_token"' if unknown else "Bearer")
    detail = "the server does not know the request's API key" if unknown else "the request has no API key"
    how = "Authorization: Bearer KEY, or X-API-Key: KEY"
    if path.startswith("/v2"):
        assert response.json() == {"error": f"{detail}; expected {how}"}
    else:
        assert response.json()["detail"] == detail
        assert response.json()["expected"] == how


@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
def test_a_key_opens_what_it_is_for(guarded: Guarded, header: str) -> None:
    prefix = "Bearer " if header == "Authorization" else ""
    client = guarded.server.client
    user, admin = ({header: prefix + guarded.keys[name]} for name in ("user", "admin"))
    assert client.post("/v1/digits", json=PIXELS, headers=user | {"x-request-id": header}).status_code == 200
    (line,) = guarded.server.logged(header)
    assert line["key"] == "user"
    assert client.post("/v2/repository/index", headers=admin).status_code == 200
    for headers, path, scope in ((user, "/v2/repository/index", "admin"), (admin, "/v1/digits", "infer")):
        refused = client.post(path, headers=headers)
        assert refused.status_code == 403
        assert refused.headers["www-authenticate"] == f'Bearer error="insufficient_scope", scope="{scope}"'
    assert refused.json()["detail"] == "the key admin has the scope admin"
    assert refused.json()["expected"] == "a key with the scope infer"


@pytest.mark.parametrize("ending", ["index", "models/digits/load", "models/digits/unload", "x", "a/b/c", ""])
@pytest.mark.parametrize("tail", ["", "%0A", "%0a%0a", "/", "?x=1", "%00", "#"])
def test_no_way_of_writing_an_address_administers(guarded: Guarded, ending: str, tail: str) -> None:
    """A route's pattern ends before a line break; what guards it must not."""
    headers = {"X-API-Key": guarded.keys["user"]}
    response = guarded.server.client.post(f"/v2/repository/{ending}{tail}", headers=headers)
    assert response.status_code == 403


@pytest.mark.parametrize(
    "path", ["//v1/digits", "/./v1/digits", "/docs/../v1/digits", "/web/%2e%2e/v1/digits"]
)
def test_no_way_of_writing_an_address_infers(guarded: Guarded, path: str) -> None:
    response = guarded.server.client.post(path, json=PIXELS)
    assert response.status_code in (401, 404, 405)


def test_a_key_has_a_rate(guarded: Guarded) -> None:
    headers = {"X-API-Key": guarded.keys["slow"]}
    statuses = [guarded.server.client.get("/v2", headers=headers).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    refused = guarded.server.client.post("/v1/digits", json=PIXELS, headers=headers)
    assert refused.status_code == 429
    assert 900 < int(refused.headers["retry-after"]) <= 1000
    assert refused.json()["type"] == "urn:momentum-serve:problem:rate-limit-exceeded"
    assert refused.json()["detail"] == "the key slow may make 0.001 requests a second, and 2 at once"
    assert guarded.server.client.get("/v2/health/live", headers=headers).status_code == 200


def test_a_new_key_is_good_at_once_and_a_removed_one_is_not(guarded: Guarded) -> None:
    before = guarded.path.read_text()
    key = add(guarded.path, "new", frozenset({Access.INFER}), None, None)
    client, headers = guarded.server.client, {"X-API-Key": key}

    def wait_for(status: int) -> None:
        deadline = time.monotonic() + 30
        while client.get("/v2", headers=headers).status_code != status:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    wait_for(200)
    guarded.path.write_text(before)
    wait_for(401)
    assert client.get("/v2", headers={"X-API-Key": guarded.keys["user"]}).status_code == 200


def test_websockets(guarded: Guarded) -> None:
    url = guarded.server.url.replace("http", "ws") + "/v1/frames/stream"
    user = guarded.keys["user"]

    async def connect(offered: list[str] | None, headers: dict[str, str] | None = None) -> str | None:
        subprotocols: Any = offered
        async with websockets.connect(url, subprotocols=subprotocols, additional_headers=headers) as socket:
            return socket.subprotocol

    async def main() -> None:
        assert await connect(["momentum", f"bearer.{user}"]) == "momentum"
        assert await connect(None, {"Authorization": f"Bearer {user}"}) is None
        for offered, status in (
            (None, 401),
            (["momentum"], 401),
            (["momentum", "bearer.x"], 401),
            (["momentum", f"bearer.{guarded.keys['admin']}"], 403),
        ):
            with pytest.raises(websockets.InvalidStatus) as refused:
                await connect(offered)
            response = refused.value.response
            assert response.status_code == status
            assert response.headers["Content-Type"] == "application/problem+json"
            assert response.headers["X-Content-Type-Options"] == "nosniff"

    asyncio.run(main())


def test_a_stream_ends_with_its_key_and_goes_on_with_another(guarded: Guarded) -> None:
    before = guarded.path.read_text()
    key = add(guarded.path, "leaver", frozenset({Access.INFER}), None, None)
    url = guarded.server.url.replace("http", "ws") + "/v1/frames/stream"
    wait_until(
        lambda: guarded.server.client.get("/v2", headers={"X-API-Key": key}).status_code == 200, "known"
    )
    with connect(url, additional_headers={"X-API-Key": key}) as socket:
        socket.send(json.dumps({"type": "start", "sample_rate": 16000, "encoding": "pcm16"}))
        assert json.loads(socket.recv())["type"] == "started"
        guarded.path.write_text(before)
        message: dict[str, Any] = {}
        deadline = time.monotonic() + 30
        while message.get("type") != "error":
            assert time.monotonic() < deadline
            with suppress(TimeoutError):
                socket.send(bytes(320))
                message = json.loads(socket.recv(timeout=0.1))
        assert message["code"] == "key_revoked"
        with pytest.raises(ConnectionClosedError) as closed:
            socket.recv(timeout=30)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4401
    with connect(url, additional_headers={"X-API-Key": guarded.keys["user"]}) as socket:
        socket.send(json.dumps({"type": "resume", "token": message["resume"]}))
        assert json.loads(socket.recv())["type"] == "resumed"


def test_no_key_is_in_the_log(guarded: Guarded) -> None:
    """Not in the line of any request, whichever way the key came and whatever became of it."""
    url = guarded.server.url.replace("http", "ws") + "/v1/frames/stream"
    for name, key in [*guarded.keys.items(), ("nobody", "momentum-unknown")]:
        for number, sent in enumerate(({"X-API-Key": key}, {"Authorization": f"Bearer {key}"})):
            headers = sent | {"X-Request-ID": f"{name}-{number}"}
            guarded.server.client.post("/v2/repository/index", headers=headers)
            guarded.server.logged(f"{name}-{number}")
    offered: Any = ["momentum", f"bearer.{guarded.keys['admin']}"]
    with (
        pytest.raises(InvalidStatus),
        connect(url, subprotocols=offered, additional_headers={"X-Request-ID": "socket"}),
    ):
        pass
    deadline = time.monotonic() + 30
    while not (lines := [line for line in guarded.server.log() if line.get("request_id") == "socket"]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert (lines[0]["event"], lines[0]["status"], lines[0]["key"]) == ("request", 403, "admin")
    log = guarded.server.log_file.read_text()
    assert not any(key in log for key in [*guarded.keys.values(), "momentum-unknown"])


def test_refusals_are_counted(guarded: Guarded) -> None:
    def counts() -> dict[str, int]:
        text = guarded.server.client.get("/metrics").text
        found = re.findall(r'^momentum_http_refusals_total{reason="(.*)"} (.*)$', text, re.MULTILINE)
        return {reason: int(float(count)) for reason, count in found}

    before = counts()
    for name in ("", "user", "slow", "slow", "slow"):
        headers = {"X-API-Key": guarded.keys[name]} if name else {}
        path = "/v2/repository/index" if name == "user" else "/v2"
        guarded.server.client.post(path, headers=headers)
    after = counts()
    grown = {reason: after[reason] - before[reason] for reason in after if after[reason] > before[reason]}
    assert grown.keys() == {"unauthorized", "forbidden", "rate_limited"}
    assert (grown["unauthorized"], grown["forbidden"]) == (1, 1)
    assert grown["rate_limited"] in (1, 2, 3)  # what is left of its burst, other tests may have used


def test_a_broken_file_of_keys_is_one_clear_line(serve: Any, small_store: Path, tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text("[[")
    with (
        pytest.raises(AssertionError, match=r"exited with 1: .*keys.toml: not TOML.*cannot start"),
        serve("--store", small_store, "--api-keys", tmp_path / "keys.toml"),
    ):
        pass


async def call(
    path: str,
    client: str | None = "127.0.0.1",
    keys: Keys | None = None,
    *,
    local_admin: bool = True,
    method: str = "POST",
    **headers: str,
) -> tuple[int, bytes]:
    """Ask an application that is guarded; the status, and the body: whether the client is an admin."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(str(is_admin(scope)))(scope, receive, send)

    async def receive() -> Message:
        raise AssertionError("there is nothing to read")

    async def send(message: Message) -> None:
        sent.append(message)

    sent: list[Message] = []
    refusals: Refusals = Counter()
    guard = AccessControl(app, keys, [], lambda: 0.0, refusals, local_admin=local_admin)
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "client": client and (client, 1),
        "headers": [
            (name.encode(), value.encode()) for name, value in ({"host": "localhost"} | headers).items()
        ],
    }
    await RequestContext(guard, refusals, RequestCounts())(scope, receive, send)
    assert sum(refusals.values()) == (sent[0]["status"] != 200)
    return sent[0]["status"], sent[1]["body"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:8000"])
@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.8.8", "::1"])
def test_without_keys_programs_here_administer_if_they_may(client: str, host: str) -> None:
    assert asyncio.run(call("/v2/repository/index", client, host=host)) == (200, b"True")


@pytest.mark.parametrize(
    ("client", "headers"),
    [
        ("192.0.2.7", {}),
        ("::ffff:192.0.2.7", {}),
        ("testclient", {}),
        (None, {}),
        ("127.0.0.1", {"origin": "http://localhost"}),  # a page's script, in the operator's browser
        ("127.0.0.1", {"host": "rebound.example"}),  # a name of elsewhere that leads here
        ("127.0.0.1", {"host": "127.0.0.1.example"}),
        ("127.0.0.1", {"host": ""}),
        ("127.0.0.1", {"via": "1.1 proxy"}),  # of a proxy here, for anybody
        ("127.0.0.1", {"forwarded": "for=192.0.2.7"}),
        ("127.0.0.1", {"x-forwarded-for": "127.0.0.1"}),
        ("127.0.0.1", {"x-forwarded-proto": "https"}),
        ("127.0.0.1", {"x-real-ip": "127.0.0.1"}),
    ],
)
def test_without_keys_others_do_not(client: str | None, headers: dict[str, str]) -> None:
    status, body = asyncio.run(call("/v2/repository/index", client, **headers))
    assert status == 403
    assert b"without API keys, only programs on the server's own machine" in body
    assert asyncio.run(call("/v1/digits", client, **headers)) == (200, b"False")


def test_without_keys_nobody_else_administers() -> None:
    status, body = asyncio.run(call("/v2/repository/index", local_admin=False))
    assert status == 403
    assert b"without API keys, nobody may administer the server" in body
    assert asyncio.run(call("/v1/streams/x/state", local_admin=False, method="GET")) == (200, b"False")


def status_of_index(server: Any, version: bytes) -> int:
    """Asked as a proxy on the server's machine does that tells nothing of itself."""
    head = b"POST /v2/repository/index HTTP/%s\r\nHost: 127.0.0.1:8000\r\nConnection: close\r\n\r\n"
    with socket.create_connection(server.address, timeout=60) as connection:
        connection.sendall(head % version)
        return int(connection.recv(65536).split()[1])


def test_a_proxy_that_tells_nothing_is_no_program_here(
    serve: Any, small_store: Path, small_server: Any
) -> None:
    """As nginx does by itself, in HTTP/1.0; one that speaks HTTP/1.1 can't be told apart, so that programs
    here are administrators only if that is wanted.
    """
    assert [status_of_index(small_server, version) for version in (b"1.0", b"1.1")] == [403, 200]
    with serve("--store", small_store) as server:
        assert [status_of_index(server, version) for version in (b"1.0", b"1.1")] == [403, 403]


def test_a_streams_endpoint_looks_for_itself(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    user, admin = (add(path, scope, frozenset({scope}), None, None) for scope in Access)
    keys = Keys(path, lambda: 0.0)
    state = "/v1/streams/x/state"
    for sent, administers in (
        ({}, b"False"),
        ({"x-api-key": user}, b"False"),
        ({"x-api-key": admin}, b"True"),
    ):
        assert asyncio.run(call(state, keys=keys, method="GET", **sent)) == (200, administers)
    for sent, status in (({}, 401), ({"x-api-key": user}, 200), ({"x-api-key": admin}, 403)):
        assert asyncio.run(call(state, keys=keys, method="PUT", **sent))[0] == status


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_keys_rate_is_that_of_streams_states_too(
    serve: Any, small_store: Path, tmp_path: Path, method: str
) -> None:
    path = tmp_path / "keys.toml"
    key = add(path, "slow", frozenset({Access.INFER}), 0.001, 2)
    with serve("--store", small_store, "--api-keys", path) as server:

        def ask(sent: str) -> int:
            headers = {"Authorization": f"Bearer {sent}"}
            response = server.client.request(method, "/v1/streams/x/state", headers=headers)
            return int(response.status_code)

        found = 404 if method == "GET" else 422
        assert [ask(key) for _ in range(3)] == [found, found, 429]
        assert ask("a stream's token, say") == (404 if method == "GET" else 401)
