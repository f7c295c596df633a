"""The page's files, which are read once: no path of a request ever reaches the file system."""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

_FOLDER = Path(__file__).parent / "static"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".wav": "audio/wav"}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class _File:
    content: bytes
    media_type: str
    tag: str


def install(app: FastAPI) -> None:
    """Give the application the page."""
    files = {path.relative_to(_FOLDER).as_posix(): _read(path) for path in _FOLDER.rglob("*.*")}

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return _answer(request, files["index.html"])

    @app.get("/web/{name:path}", include_in_schema=False)
    async def file(request: Request, name: str) -> Response:
        if name not in files:
            raise HTTPException(404)
        return _answer(request, files[name])


def _read(path: Path) -> _File:
    content = path.read_bytes()
    media_type = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "text/plain"
    return _File(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:16]}"')


def _answer(request: Request, file: _File) -> Response:
    headers = {"ETag": file.tag, "Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
    if request.headers.get("if-none-match") == file.tag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.media_type)
