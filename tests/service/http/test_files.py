"""No path leads from a request to the file system."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import fastapi_offline
import pytest
from starlette.types import Message

from service import Settings, create_app

OPENS = ("open", "os.listdir", "os.scandir", "os.rename", "os.remove", "os.mkdir", "subprocess.Popen")

_watching = False
_seen: list[str] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event in OPENS:
        _seen.append(f"{event} {arguments[0]!r}")


@contextmanager
def opened() -> Iterator[list[str]]:
    """What any thread of this process opens, lists or changes in the file system."""
    global _watching
    if not hasattr(sys, "_momentum_files_hook"):  # a hook stays for as long as the process does
        sys.addaudithook(_hook)
        sys._momentum_files_hook = True
    _seen.clear()
    _watching = True
    try:
        yield _seen
    finally:
        _watching = False


NAMES = [
    "..",
    "../digits",
    "../../secret",
    "..%2f..%2fsecret",
    "%2e%2e%2f%2e%2e%2fsecret",
    "..%5c..%5csecret",
    "%2fetc%2fpasswd",
    "%252e%252e%252fsecret",
    "digits%00",
    "digits%2f1%2fcard.json",
    "file:%2f%2f%2fetc%2fpasswd",
    "~root",
    "CON",
    "a" * 5000,
]
PATHS = [
    ("GET", "/v2/models/{}"),
    ("GET", "/v2/models/{}/ready"),
    ("GET", "/v2/models/{}/config"),
    ("GET", "/v2/models/{}/stats"),
    ("GET", "/v2/models/digits/versions/{}"),
    ("POST", "/v2/models/{}/infer"),
    ("POST", "/v2/models/digits/versions/{}/infer"),
    ("POST", "/v2/repository/models/{}/load"),
    ("POST", "/v2/repository/models/{}/unload"),
    ("GET", "/v1/streams/{}/state"),
    ("PUT", "/v1/streams/{}/state"),
    ("GET", "/web/{}"),
    ("GET", "/{}"),
]
BODIES = [
    ("/v1/digits", {"images": "../../secret"}),
    ("/v1/digits", {"pixels": "file:///etc/passwd"}),
    (
        "/v2/models/digits/infer",
        {
            "id": "../../secret",
            "inputs": [
                {"name": "../../secret", "shape": [1], "datatype": "FP32", "data": ["/etc/passwd"]},
            ],
            "parameters": {"sequence_id": "../../secret", "shared_memory_region": "/etc/passwd"},
        },
    ),
    ("/v2/repository/index", {"ready": "../../secret"}),
    ("/v2/repository/models/digits/load", {"parameters": {"config": "../x", "file:1/model.onnx": "eA=="}}),
]


async def ask(app: Any, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    """Ask an application as its server would, which tidies up no paths; status and body of the answer."""
    content = b"" if body is None else json.dumps(body).encode()
    to_send: list[Message] = [{"type": "http.request", "body": content}]
    sent: list[Message] = []

    async def receive() -> Message:
        if not to_send:
            await asyncio.Event().wait()  # the client stays
        return to_send.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "headers": [(b"host", b"localhost"), (b"content-length", str(len(content)).encode())],
    }
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


def test_names_open_nothing(small_store: Path) -> None:
    (small_store.parent / "secret").write_text("a secret")
    app = create_app(Settings(store=small_store, local_admin=True))
    asked = [(method, path.format(name), None) for method, path in PATHS for name in NAMES]

    async def main() -> None:
        async with app.fastapi.router.lifespan_context(app.fastapi):
            await ask(app, "POST", "/v1/digits", {"pixels": [0, 1] * 392})  # imports what is not yet imported
            for folder in ("/static-offline-docs", "/web"):  # FastAPI reads the source of what raises, once
                await ask(app, "GET", f"{folder}/none")
            with opened() as seen:  # loading looks for new versions of all models, whatever was asked for
                await ask(app, "POST", "/v2/repository/models/none/load")
            usual = {*seen}
            for method, path, body in [*asked, *(("POST", path, body) for path, body in BODIES)]:
                with opened() as seen:
                    status, answer = await ask(app, method, path, body)
                assert status < 500 or status == 501, path
                assert b"a secret" not in answer
                assert {*seen} <= usual, path

    asyncio.run(main())


@pytest.mark.parametrize("name", NAMES)
def test_the_documentations_own_files_are_the_only_ones_served(small_store: Path, name: str) -> None:
    """These Starlette serves from their folder."""
    folder = str(Path(fastapi_offline.__file__).parent / "static")
    app = create_app(Settings(store=small_store, local_admin=True))

    async def main() -> int:
        assert (await ask(app, "GET", "/static-offline-docs/swagger-ui.css"))[0] == 200
        with opened() as seen:
            status, _ = await ask(app, "GET", f"/static-offline-docs/{name}")
        assert not [event for event in seen if folder not in event]
        return status

    assert asyncio.run(main()) == 404
