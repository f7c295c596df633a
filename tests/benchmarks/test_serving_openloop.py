"""The load that does not wait counts every request once, as what became of it."""

import itertools
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from benchmarks.serving import openloop
from benchmarks.serving.outcome import BROKEN, IMPROPER, OK, REJECTED, SILENT, UNSENT, Outcome
from tests.benchmarks.small_server import answer, answering

REQUEST = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 1\r\n\r\n"


def wait_for(event: threading.Event) -> None:
    assert event.wait(60)


def test_every_kind_of_answer_is_counted() -> None:
    def say(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        match body:
            case b"a":
                answer(handler, 200, b"fine")
            case b"b":
                answer(handler, 429, Retry_After="2")
            case b"c":
                answer(handler, 429)
            case b"d":
                answer(handler, 503, Connection="close")
            case _:
                handler.close_connection = True  # without an answer

    with answering(say) as port:
        requests = [REQUEST + body for body in (b"a", b"b", b"c", b"d", b"e")]
        result = openloop.Generator(port, requests, 100).run(100.0, 1.0)
    each, over = divmod(result.due, 5)
    assert each > 5
    names = [OK, REJECTED, IMPROPER, "503", BROKEN]
    assert {name: count for name, count in result.answers.items() if count} == {
        name: each + (number < over) for number, name in enumerate(names)
    }
    assert len(result.times) == result.answers[OK] == result.good.total()
    assert (
        len(result.rejection_times)
        == result.rejected.total()
        == result.answers[REJECTED] + result.answers[IMPROPER]
    )
    assert result.retry_after == {"2": result.answers[REJECTED]}
    assert result.improper == result.answers[IMPROPER] + result.answers["503"] + result.answers[BROKEN]
    assert result.cores > 0


def test_it_does_not_wait_for_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """All requests are under way at once; the server answers none before the last has come."""
    monkeypatch.setattr(openloop, "GRACE", 60.0)
    arrived = itertools.count(1)
    expected = openloop.Generator(0, [REQUEST], 0).run(50.0, 0.5).due  # sends none
    all_there = threading.Event()

    def say(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        if next(arrived) == expected:
            all_there.set()
        wait_for(all_there)
        answer(handler, 200)

    with answering(say) as port:
        result = openloop.Generator(port, [REQUEST + b"a"], 1000).run(50.0, 0.5)
    assert result.due == result.answers[OK] == expected > 10


def test_times_count_from_when_a_request_was_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator that is late makes the server look worse, never better."""
    send = openloop.Generator._send

    def late(*arguments: object) -> None:
        time.sleep(0.1)
        send(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(openloop.Generator, "_send", late)
    with answering(lambda handler, _: answer(handler, 200)) as port:
        result = openloop.Generator(port, [REQUEST + b"a"], 100).run(50.0, 0.3)
    assert result.answers[OK] == result.due
    assert max(result.times) >= 0.1 * result.due - 0.3


def test_requests_without_an_answer_or_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openloop, "GRACE", 0.2)
    over = threading.Event()
    with answering(lambda *_: wait_for(over)) as port:
        result = openloop.Generator(port, [REQUEST + b"a"], 3).run(100.0, 0.5)
        over.set()
    assert result.answers[SILENT] == 3
    assert result.answers[UNSENT] == result.due - 3 == result.improper - 3 > 0


def test_an_outcome_comes_over_from_the_other_process(tmp_path: Path) -> None:
    (tmp_path / "request").write_bytes(REQUEST + b"a")
    with answering(lambda handler, _: answer(handler, 429, Retry_After="1")) as port:
        command = [sys.executable, "-m", "benchmarks.serving.openloop", "--port", str(port), "--rate", "40"]
        command += ["--seconds", "0.5", "--connections", "50", str(tmp_path / "request")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    result = Outcome.load(done.stdout)
    assert result.seconds == 0.5
    assert result.answers[REJECTED] == result.due > 5
    assert result.rejected[0] == result.due
    assert Outcome.load(result.dump()) == result


def test_goodput_is_what_came_in_time() -> None:
    result = Outcome(2.0, 5)
    for took in (0.1, 0.5, 0.9, 1.5):
        result.answered(OK, None, 0.25, 0.25 + took)
    result.answered(REJECTED, b"soon", 1.5, 1.6)
    assert result.goodput(1.0) == 1.5
    assert result.milliseconds(50) == pytest.approx(700)
    assert result.rejection_milliseconds(50) == pytest.approx(100)
    assert result.answers == {OK: 4, IMPROPER: 1}
    assert result.improper == 1
    assert result.good == {0: 4}
    assert Outcome(1.0, 0).milliseconds(99) == float("inf")
    assert Outcome(1.0, 0).goodput(1.0) == 0.0
