"""Headers of requests, read as ASGI has them, and those that every answer gets."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import Scope

RawHeaders = Iterable[tuple[bytes, bytes]]

_POLICY = b"content-security-policy"
# An answer of the API is not to be shown, run or framed. A page brings a policy of its own.
_API_POLICY = (_POLICY, b"default-src 'none'; frame-ancestors 'none'")
# FastAPI's page starts Swagger's script with one of its own, inline, and Swagger styles itself. Nothing that
# anybody sent is on that page.
_DOCS_POLICY = (
    _POLICY,
    b"default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
)
_ALWAYS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that name, in lower case; cheaper than making a mapping of all."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def content_length(scope: Scope) -> int:
    """Of the body, bytes; 0 if the request does not say. The parser has seen to it that it is a number."""
    # Python reads no number of thousands of digits, be they zeros.
    return int((header(scope, b"content-length") or b"").lstrip(b"0") or b"0")


def secured(headers: RawHeaders, path: str) -> list[tuple[bytes, bytes]]:
    """An answer's headers, with those that tell browsers what not to do with it."""
    headers = [*headers, *_ALWAYS]
    if not any(name.lower() == _POLICY for name, _ in headers):
        headers.append(_DOCS_POLICY if path == "/docs" else _API_POLICY)
    return headers
