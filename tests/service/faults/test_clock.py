"""The system's clock jumps. (triton#3577, #8449; MLServer#999: streams that expire too early or never.) Only
the monotonic one decides here.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.service.faults.launcher import Fault
from tests.service.faults.load import is_right, question, wait_until
from tests.service.small_frames import HOP, LABELS, expected
from tests.service.stream_client import StreamClient

INFER = "/v2/models/digits/infer"


def status(server: Any) -> Any:
    return server.client.get("/v1/status").json()


def labels(waveform: Any) -> list[str]:
    return [LABELS[index] for index in expected(waveform).argmax(axis=1)]


@pytest.mark.parametrize("jump", [Fault.CLOCK_AHEAD, Fault.CLOCK_BACK])
def test_deadlines_and_streams_do_not_notice_a_jump_of_the_clock(
    serve_faulty: Any, small_store: Path, jump: Fault
) -> None:
    audio = (32767 * np.linspace(0, 0.9, 10 * HOP)).astype("<i2")
    with serve_faulty("--store", small_store, "--lanes", 1) as server:
        lost = StreamClient(server.address)
        token = lost.start()["resume"]
        lost.send(audio[: 5 * HOP].tobytes())
        assert lost.message()["type"] == "frames"  # so that nothing of it runs or waits any more
        lost.cut()
        parameters = {"sequence_id": "clock", "sequence_start": True}
        assert server.client.post(INFER, json=question(1.0) | {"parameters": parameters}).status_code == 200
        server.process.send_signal(Fault.HOLD)
        answers: list[Any] = []

        def ask() -> None:
            document = question(3.0) | {"parameters": {"timeout": 3_000_000_000}}
            answers.append(server.client.post(INFER, json=document).json())

        waiting = [threading.Thread(target=ask) for _ in range(3)]
        for thread in waiting:
            thread.start()
        wait_until(lambda: status(server)["queue"]["requests"] == 2, "one runs, two wait")
        server.process.send_signal(jump)

        late = server.client.post(INFER, json=question(1.0), headers={"X-Request-Timeout": "0.1"})
        assert late.status_code in (429, 504)  # a deadline passes as ever
        assert status(server)["queue"]["requests"] == 2  # the others', in an hour, do not
        server.process.send_signal(Fault.RELEASE)
        for thread in waiting:
            thread.join(60)
        assert len(answers) == 3
        assert all(is_right(answer, 3.0) for answer in answers)

        answer = server.client.post(INFER, json=question(2.0) | {"parameters": {"sequence_id": "clock"}})
        assert is_right(answer.json(), 3.0)
        with StreamClient(server.address) as stream:
            stream.send({"type": "resume", "token": token})
            taken = stream.message()
            assert taken["type"] == "resumed"
            stream.send(audio[taken["samples"] :].tobytes())
            stream.send({"type": "finish"})
            messages, closed = stream.rest()
        assert closed.code == 1000
        heard = [label for message in messages if message["type"] == "frames" for label in message["labels"]]
        assert heard == labels(audio / 32768)
        assert status(server)["streams"]["open"] == 1  # the sequence's
        assert server.stop() == 0
