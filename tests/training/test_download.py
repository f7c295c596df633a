"""``training.data.download`` against real HTTP servers on the loopback interface."""

import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from training.data import DownloadError
from training.data import download as module
from training.data.content import md5_of
from training.data.download import download

CONTENT = np.random.default_rng(0).bytes(300_000)
WRAPPED = gzip.compress(CONTENT, mtime=1)
OTHER_WRAPPER = gzip.compress(CONTENT, mtime=2, compresslevel=1)
MD5 = md5_of(CONTENT)


class Mirror:
    """A server that answers each request with the next of the given behaviours; the last one stays.

    Attributes:
        url: of the file it serves, whatever the path.
        ranges: the Range header of every request so far.
    """

    def __init__(self, *behaviours: "Behaviour") -> None:
        self.ranges: list[str | None] = []
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.ranges.append(self.headers["Range"])
                behaviours[min(len(mirror.ranges), len(behaviours)) - 1](self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/file.gz"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


Behaviour = Callable[[BaseHTTPRequestHandler], None]
Start = Callable[..., Mirror]


def send(
    handler: BaseHTTPRequestHandler, status: int, body: bytes, *, length: int | None = None, **headers: str
) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def serve(body: bytes = WRAPPED, *, stop_after: int | None = None) -> Behaviour:
    """Honour Range; close the connection after ``stop_after`` bytes of the answer."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        requested = handler.headers["Range"]
        start = int(requested.removeprefix("bytes=").removesuffix("-")) if requested else 0
        rest = body[start:]
        if not requested:
            send(handler, 200, rest[:stop_after], length=len(rest))
        elif rest:
            content_range = f"bytes {start}-{len(body) - 1}/{len(body)}"
            send(handler, 206, rest[:stop_after], length=len(rest), Content_Range=content_range)
        else:
            send(handler, 416, b"", Content_Range=f"bytes */{len(body)}")

    return behave


def serve_without_ranges(body: bytes = WRAPPED) -> Behaviour:
    return lambda handler: send(handler, 200, body)


def serve_until_close(handler: BaseHTTPRequestHandler) -> None:
    """State no length: the body ends where the connection does."""
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(WRAPPED)


def fail(status: int) -> Behaviour:
    return lambda handler: send(handler, status, b"no")


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def start() -> Iterator[Start]:
    mirrors: list[Mirror] = []

    def start_mirror(*behaviours: Behaviour) -> Mirror:
        mirrors.append(Mirror(*behaviours))
        return mirrors[-1]

    yield start_mirror
    for mirror in mirrors:
        mirror.close()


@pytest.fixture
def closed_url() -> str:
    """The address of a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/file.gz"


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "new" / "file.gz"


@pytest.fixture
def part(destination: Path) -> Path:
    destination.parent.mkdir()
    return destination.with_name("file.gz.part")


def files_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_whole(start: Start, destination: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mirror = start(serve())
    download([mirror.url], destination, md5=MD5)
    assert destination.read_bytes() == WRAPPED
    assert files_in(destination.parent) == ["file.gz"]
    assert mirror.ranges == [None]
    captured = capsys.readouterr()
    assert "file.gz" in captured.err
    assert not captured.out


def test_plain_content(start: Start, destination: Path) -> None:
    download([start(serve(CONTENT)).url], destination, md5=MD5)
    assert destination.read_bytes() == CONTENT


def test_resumes_what_an_earlier_process_left(start: Start, destination: Path, part: Path) -> None:
    part.write_bytes(WRAPPED[:100_000])
    mirror = start(serve())
    download([mirror.url], destination, md5=MD5)
    assert destination.read_bytes() == WRAPPED
    assert mirror.ranges == ["bytes=100000-"]


def test_server_without_ranges_starts_over(start: Start, destination: Path, part: Path) -> None:
    part.write_bytes(WRAPPED[:100_000])
    download([start(serve_without_ranges()).url], destination, md5=MD5)
    assert destination.read_bytes() == WRAPPED


def test_dropped_connection_continues(start: Start, destination: Path) -> None:
    mirror = start(serve(stop_after=100_000), serve(stop_after=70_000), serve())
    download([mirror.url], destination, md5=MD5)
    assert destination.read_bytes() == WRAPPED
    assert mirror.ranges == [None, "bytes=100000-", "bytes=170000-"]


def test_connection_that_keeps_dropping_leaves_its_bytes_for_the_next_run(
    start: Start, destination: Path
) -> None:
    mirror = start(serve(stop_after=50_000))
    reason = f"connection closed after 150,000 of {len(WRAPPED):,} bytes"
    with pytest.raises(DownloadError, match=reason):
        download([mirror.url], destination, md5=MD5)
    assert len(mirror.ranges) == module.ATTEMPTS
    assert files_in(destination.parent) == ["file.gz.part"]
    download([start(serve()).url], destination, md5=MD5)
    assert files_in(destination.parent) == ["file.gz"]


@pytest.mark.parametrize(
    "wrong", [b"<html>Please log in</html>", WRAPPED[:-1], gzip.compress(b"?", mtime=1), b""]
)
def test_wrong_content_is_removed(start: Start, destination: Path, wrong: bytes) -> None:
    mirror = start(serve(wrong))
    with pytest.raises(DownloadError, match=f"wrong content: found .*, expected MD5 {MD5}"):
        download([mirror.url], destination, md5=MD5)
    assert mirror.ranges == [None]
    assert files_in(destination.parent) == []


def test_wrong_content_then_the_next_mirror(start: Start, destination: Path) -> None:
    download([start(serve(b"wrong")).url, start(serve()).url], destination, md5=MD5)
    assert destination.read_bytes() == WRAPPED


def test_bytes_of_another_wrapper_are_dropped(start: Start, destination: Path, part: Path) -> None:
    part.write_bytes(OTHER_WRAPPER[:100_000])
    mirror = start(serve())
    download([mirror.url], destination, md5=MD5)
    assert destination.read_bytes() == WRAPPED
    assert mirror.ranges == ["bytes=100000-", None]


def test_part_that_is_already_complete_is_fetched_again(start: Start, destination: Path, part: Path) -> None:
    part.write_bytes(WRAPPED)
    mirror = start(serve())
    download([mirror.url], destination, md5=MD5)
    assert destination.read_bytes() == WRAPPED
    assert mirror.ranges == [f"bytes={len(WRAPPED)}-", None]


def test_continuation_from_the_wrong_byte_is_refused(start: Start, destination: Path, part: Path) -> None:
    part.write_bytes(WRAPPED[:100_000])

    def continue_elsewhere(handler: BaseHTTPRequestHandler) -> None:
        content_range = f"bytes 99999-{len(WRAPPED) - 1}/{len(WRAPPED)}"
        send(handler, 206, WRAPPED[99_999:], Content_Range=content_range)

    mirror = start(continue_elsewhere, serve())
    download([mirror.url], destination, md5=MD5)
    assert destination.read_bytes() == WRAPPED
    assert mirror.ranges == ["bytes=100000-", None]


def test_body_without_stated_length(start: Start, destination: Path) -> None:
    download([start(serve_until_close).url], destination, md5=MD5)
    assert destination.read_bytes() == WRAPPED


def test_refusal_goes_to_the_next_mirror_at_once(start: Start, destination: Path) -> None:
    absent, present = start(fail(404)), start(serve())
    download([absent.url, present.url], destination, md5=MD5)
    assert destination.read_bytes() == WRAPPED
    assert len(absent.ranges) == 1


@pytest.mark.parametrize("trouble", [fail(503), fail(429), hang_up])
def test_passing_trouble_is_retried(start: Start, destination: Path, trouble: Behaviour) -> None:
    mirror = start(trouble, trouble, serve())
    download([mirror.url], destination, md5=MD5)
    assert destination.read_bytes() == WRAPPED


def test_no_mirror_works(start: Start, destination: Path, closed_url: str) -> None:
    broken, silent = start(fail(500)), start(hang_up)
    with pytest.raises(DownloadError) as raised:
        download([broken.url, silent.url, closed_url], destination, md5=MD5)
    first, *reasons = str(raised.value).splitlines()
    assert first == "file.gz could not be downloaded:"
    assert reasons[0] == f"  {broken.url}: HTTP 500 Internal Server Error"
    assert reasons[1].startswith(f"  {silent.url}: no answer (")
    assert reasons[2].startswith(f"  {closed_url}: ")
    assert "Connection refused" in reasons[2]
    assert len(broken.ranges) == len(silent.ranges) == module.ATTEMPTS
    assert files_in(destination.parent) == []


def test_stalled_server(start: Start, destination: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.1)
    release = threading.Event()

    def stall(handler: BaseHTTPRequestHandler) -> None:
        send(handler, 200, WRAPPED[:1_000], length=len(WRAPPED))
        release.wait(30)

    mirror = start(stall, serve())
    try:
        download([mirror.url], destination, md5=MD5)
    finally:
        release.set()
    assert destination.read_bytes() == WRAPPED


@pytest.mark.parametrize("stated", [True, False])
def test_more_than_the_limit(
    start: Start, destination: Path, stated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 200_000)

    mirror = start(serve() if stated else serve_until_close)
    with pytest.raises(DownloadError, match="larger than the limit of 200,000 bytes"):
        download([mirror.url], destination, md5=MD5)
    assert files_in(destination.parent) == []


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://localhost/file", "file.gz"])
def test_other_schemes(destination: Path, url: str) -> None:
    with pytest.raises(ValueError, match="expected an http or https address"):
        download([url], destination, md5=MD5)
    assert not destination.parent.exists()


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1:9/file", "data:,x"])
def test_redirect_to_another_scheme(start: Start, destination: Path, target: str) -> None:
    mirror = start(lambda handler: send(handler, 302, b"", Location=target))
    with pytest.raises(DownloadError):
        download([mirror.url], destination, md5=MD5)
    assert files_in(destination.parent) == []


def test_redirect(start: Start, destination: Path, part: Path) -> None:
    part.write_bytes(WRAPPED[:100_000])
    target = start(serve())
    mirror = start(lambda handler: send(handler, 302, b"", Location=target.url))
    download([mirror.url], destination, md5=MD5)
    assert destination.read_bytes() == WRAPPED
    assert target.ranges == ["bytes=100000-"]


def test_existing_file_is_left(start: Start, destination: Path, part: Path) -> None:
    destination.write_bytes(b"mine")
    mirror = start(serve())
    download([mirror.url], destination, md5=MD5)
    assert destination.read_bytes() == b"mine"
    assert mirror.ranges == []
    assert not part.exists()


def test_concurrent_downloads_fetch_once(start: Start, destination: Path) -> None:
    mirror = start(serve())
    with ThreadPoolExecutor(4) as pool:
        for finished in [pool.submit(download, [mirror.url], destination, md5=MD5) for _ in range(4)]:
            finished.result()
    assert destination.read_bytes() == WRAPPED
    assert mirror.ranges == [None]
    assert files_in(destination.parent) == ["file.gz"]
