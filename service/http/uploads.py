"""What a client uploads: as the body, or as a file in a form."""

from __future__ import annotations

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from service.http.headers import header
from service.http.problems import Problem
from service.http.words import quote

# The content types of clients that do not say what they send, such as curl's --data-binary.
UNTYPED = {"", "application/octet-stream", "application/x-www-form-urlencoded"}


def media_type(scope: Scope) -> str:
    """The body's media type, in lower case and without parameters; empty if the client does not say."""
    sent = header(scope, b"content-type") or b""
    return sent.decode("latin-1").partition(";")[0].strip().lower()


def refuse_compressed(request: Request) -> None:
    """Make sure that the body is what it says it is.

    Raises:
        Problem: it is compressed.
    """
    encoding = request.headers.get("content-encoding", "").strip()
    if encoding.lower() not in ("", "identity"):
        raise Problem(
            415,
            "Unsupported content encoding",
            f"the body has the content encoding {quote(encoding)}",
            "a body that is not compressed besides its own format, without the header Content-Encoding",
        )


async def read_body(request: Request) -> bytes:
    """The request's body, which `Request.body` would keep for as long as the request.

    Raises:
        ClientDisconnect: the client has left before it had sent all.
    """
    chunks: list[bytes] = []
    more = True
    while more:
        part = await request.receive()
        if part["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(part.get("body", b""))
        more = part.get("more_body", False)
    return b"".join(chunks)


async def form_file(request: Request, expected: str) -> bytes:
    """The file in the field `file` of a multipart/form-data body.

    Args:
        request: whose body is such a form.
        expected: the kind of file, for the problem.

    Raises:
        Problem: there is no such file in the form.
    """
    async with request.form(max_files=1, max_fields=8) as form:
        upload = form.get("file")
        if isinstance(upload, UploadFile):
            return await upload.read()
        fields = ", ".join(
            f"the file {name!r}" if isinstance(value, UploadFile) else f"the text {name!r}"
            for name, value in form.items()
        )
    raise Problem(
        422, "No file", f"the form has {fields or 'no fields'}", f"a form field 'file' with {expected}"
    )
