"""wrk sends what it is given, and what it says is read right."""

import shutil
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from benchmarks.serving import wrk
from tests.benchmarks.small_server import answer, answering

SAID = """\
Running 2s test @ http://127.0.0.1:8000
  1 threads and 4 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.02ms  100.00us   3.00ms   90.00%
    Req/Sec     4.00k   100.00     4.20k    70.00%
  8000 requests in 2.00s, 1.00MB read
Requests/sec:   4000.00
Transfer/sec:    512.00KB
measured requests=8000 microseconds=2000000 p50=1020 p99=2500 errors=3
"""


def test_its_output_is_read() -> None:
    load = wrk.parse(SAID)
    assert load == wrk.Load(requests=8000, seconds=2.0, p50_ms=1.02, p99_ms=2.5, errors=3)
    assert load.rate == 4000.0


def test_output_without_the_figures_is_an_error() -> None:
    with pytest.raises(wrk.WrkError, match="did not say"):
        wrk.parse(SAID.replace("measured", "guessed"))


def test_a_machine_without_it_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(wrk.WrkError, match="apt-get install wrk"):
        wrk.find()


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_it_sends_the_requests_in_turn_and_counts_errors() -> None:
    bodies: Counter[bytes] = Counter()
    lock = threading.Lock()

    def say(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        with lock:
            bodies[body] += 1
        answer(handler, 503 if body == b"b" else 200)

    requests = [
        f"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 1\r\n\r\n{body}".encode() for body in "abc"
    ]
    with answering(say) as port:
        load = wrk.load(port, requests, 2, 1)
    assert set(bodies) == {b"a", b"b", b"c"}
    assert max(bodies.values()) - min(bodies.values()) <= 2  # as many as there are connections
    # wrk does not wait for the last answers
    assert 0 <= bodies.total() - load.requests <= 2
    assert 0 <= bodies[b"b"] - load.errors <= 2
    assert 0 < load.p50_ms <= load.p99_ms
