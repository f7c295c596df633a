"""Downloads that survive bad networks: resumed, retried, verified, and never visible half done."""

import fcntl
import os
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO, cast
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from training.data.content import MAX_BYTES, md5_of, read_content
from training.data.errors import DataError

ATTEMPTS = 3  # per mirror
BACKOFF_SECONDS = 0.5  # before the second attempt; doubled for each further one
TIMEOUT_SECONDS = 10.0  # for a connection to open, and for each read
CHUNK_BYTES = 2**16
TRANSIENT_CLIENT_ERRORS = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}

Report = Callable[[int, int | None], None]  # (bytes so far, bytes in all if known)


class DownloadError(DataError):
    """No mirror delivered the file. The message has a line for each with the reason."""


class _MirrorError(Exception):
    """One attempt at one mirror failed; ``retry`` says whether another may succeed."""

    def __init__(self, reason: str, *, retry: bool) -> None:
        super().__init__(reason)
        self.retry = retry


def download(urls: Sequence[str], destination: Path, *, md5: str) -> None:
    """Fetch a file from the first mirror that delivers it intact, showing a progress bar on stderr.

    Bytes are collected in ``<destination>.part``, which an interrupted download leaves behind and the next
    one resumes. It is renamed to ``destination`` only after its checksum matched, and removed when it did
    not. Processes that want the same file wait for each other.

    Args:
        urls: http or https addresses of the file, in order of preference.
        destination: where it goes; its directory is created. A file already there is left as it is.
        md5: hexadecimal MD5 of the file's content, uncompressed if it is gzip.

    Raises:
        DownloadError: every mirror failed, sent something else, or sent more than ``MAX_BYTES``.
        OSError: the file cannot be written.
        ValueError: an address is neither http nor https.
    """
    for url in urls:
        if urlsplit(url).scheme not in {"http", "https"}:
            raise ValueError(f"{url}: expected an http or https address")
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = destination.with_name(f"{destination.name}.part")
    with _open_exclusively(part) as file:
        try:
            if not destination.exists():
                _fetch_from_any(urls, file, md5, destination.name)
                part.replace(destination)
        finally:
            if part.exists() and part.stat().st_size == 0:
                part.unlink()


def _open_exclusively(path: Path) -> BinaryIO:
    """Open for appending, after every other process that has it open so is done with it."""
    while True:
        file = path.open("ab")
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except FileNotFoundError:
            pass
        file.close()  # it was renamed or removed while this process waited


def _fetch_from_any(urls: Sequence[str], file: BinaryIO, md5: str, name: str) -> None:
    # Imported here so that data that is already on disk can be read without rich.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    failures = []
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=None)

        def report(completed: int, total: int | None) -> None:
            progress.update(task, completed=completed, total=total)

        for url in urls:
            try:
                _fetch(url, file, md5, report)
            except _MirrorError as error:
                failures.append(f"  {url}: {error}")
            else:
                return
    raise DownloadError("\n".join([f"{name} could not be downloaded:", *failures]))


def _fetch(url: str, file: BinaryIO, md5: str, report: Report) -> None:
    """Fetch from one mirror, with retries."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            from_start = _transfer(url, file, report)
            _verify(file, md5, from_start=from_start)
        except _MirrorError as error:
            if not error.retry or attempt == ATTEMPTS:
                raise
            time.sleep(BACKOFF_SECONDS * 2 ** (attempt - 1))
        else:
            return


def _transfer(url: str, file: BinaryIO, report: Report) -> bool:
    """Append the rest of the file. Returns whether the server sent all of it rather than a continuation."""
    offset = file.seek(0, os.SEEK_END)
    with _respond(url, offset, file) as response:
        if response.status == HTTPStatus.OK:
            file.truncate(0)  # a server without support for ranges starts over
            offset = 0
        elif not _continues(response, offset):
            file.truncate(0)
            found = f"{response.status} with Content-Range {response.headers['Content-Range']}"
            raise _MirrorError(f"answered {found} to a request for byte {offset} onwards", retry=True)
        start = offset
        total = None if response.length is None else offset + response.length
        report(offset, total)
        while chunk := _read(response):
            offset += len(chunk)
            if max(offset, total or 0) > MAX_BYTES:
                file.truncate(0)
                raise _MirrorError(f"the file is larger than the limit of {MAX_BYTES:,} bytes", retry=False)
            file.write(chunk)
            report(offset, total)
    if total is not None and offset < total:
        raise _MirrorError(f"the connection closed after {offset:,} of {total:,} bytes", retry=True)
    return start == 0


def _respond(url: str, offset: int, file: BinaryIO) -> HTTPResponse:
    """Ask for the file from byte ``offset`` onwards."""
    headers = {"User-Agent": "momentum-serve", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    try:
        opened = _opener().open(request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)  # noqa: S310 (scheme is checked)
        return cast(HTTPResponse, opened)
    except HTTPError as error:
        error.close()
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            file.truncate(0)  # what was collected is not the start of this file
            raise _MirrorError("there is no continuation to the bytes collected", retry=True) from error
        transient = error.code >= 500 or error.code in TRANSIENT_CLIENT_ERRORS
        raise _MirrorError(f"HTTP {error.code} {error.reason}", retry=transient) from error
    except URLError as error:
        # Nobody listening is not worth waiting for again, when waiting is all the last attempt did.
        raise _MirrorError(str(error.reason), retry=not isinstance(error.reason, TimeoutError)) from error
    except (HTTPException, OSError) as error:
        raise _MirrorError(f"no answer ({error})", retry=True) from error


def _opener() -> request.OpenerDirector:
    """urllib's standard opener without ftp, file and data addresses, which a redirect could name."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        request.HTTPHandler(),
        request.HTTPSHandler(),
        request.HTTPRedirectHandler(),
        request.HTTPErrorProcessor(),
        request.HTTPDefaultErrorHandler(),
        request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _continues(response: HTTPResponse, offset: int) -> bool:
    content_range = response.headers["Content-Range"] or ""
    return response.status == HTTPStatus.PARTIAL_CONTENT and content_range.startswith(f"bytes {offset}-")


def _read(response: HTTPResponse) -> bytes:
    # Wrapped alone, so that failures to read the network and to write the disk stay apart.
    try:
        return response.read(CHUNK_BYTES)
    except (HTTPException, OSError) as error:
        raise _MirrorError(f"the connection broke ({error})", retry=True) from error


def _verify(file: BinaryIO, expected: str, *, from_start: bool) -> None:
    """Check the content's MD5; if it is wrong, drop the bytes."""
    file.flush()
    os.fsync(file.fileno())
    try:
        found = f"MD5 {md5_of(read_content(Path(file.name)))}"
    except DataError as error:
        found = str(error)
    if found != f"MD5 {expected}":
        file.truncate(0)
        # Bytes begun at one mirror and resumed at another, whose gzip wrapper differs, are a mixture. Only a
        # transfer that was whole shows that this mirror has the wrong file.
        raise _MirrorError(f"wrong content: found {found}, expected MD5 {expected}", retry=not from_start)
