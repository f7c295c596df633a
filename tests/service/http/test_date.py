"""Answers tell the time."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Any

from service.http.date import Date


def test_answers_have_the_date_also_after_a_rest(small_server: Any) -> None:
    for _ in range(2):
        before = int(time.time())
        answer = small_server.client.get("/v2/health/live")
        assert before <= parsedate_to_datetime(answer.headers["Date"]).timestamp() <= time.time()
        time.sleep(1.1)


def test_the_clock_may_jump(monkeypatch: Any) -> None:
    date = Date()
    for now, told in (
        (1000.9, "16:40"),
        (1001.0, "16:41"),
        (1001.9, "16:41"),
        (4600, "16:40"),
        (999, "16:39"),
    ):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        ((_, header),) = date.headers()
        assert header.decode().endswith(f"{told} GMT"), now
