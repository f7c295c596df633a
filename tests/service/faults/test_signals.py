"""The process is told to stop, or killed, under load. (kserve#3360, baseplate#591: 502s on rollout;
uvicorn#1344: SIGTERM cuts WebSockets.)
"""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.service.faults.launcher import Fault
from tests.service.faults.load import RIGHT, Load, is_right, question, wait_until
from tests.service.stream_client import CutError, StreamClient

INFER = "/v2/models/digits/infer"


def test_sigterm_under_load_answers_what_was_accepted(serve_faulty: Any, small_store: Path) -> None:
    """As behind a load balancer: clients go on until readiness is false, and have their last requests
    answered, though the server stops meanwhile.
    """
    with (
        serve_faulty("--store", small_store, "--drain-seconds", 600) as server,
        StreamClient(server.address) as stream,
    ):
        stream.start()
        with Load(server.url) as load:
            load.wait(20)
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: server.client.get("/v2/health/ready").status_code == 503, "draining")
            load.wait(20)  # it serves on, those who have not noticed too
            assert set(load.outcomes) == {RIGHT}
            server.process.send_signal(Fault.HOLD)
            wait_until(lambda: held(server) == 6, "all clients' last requests wait or run")
            load.stop()
            server.process.send_signal(signal.SIGTERM)  # no more waiting
            messages, closed = stream.rest()
            assert (messages[-1]["code"], closed.code) == ("shutting_down", 1001)
            server.process.send_signal(Fault.RELEASE)
            load.join()
            assert set(load.outcomes) == {RIGHT}
        assert server.process.wait(timeout=60) == 0
        assert not [line for line in server.log() if line["level"] != "info"]


def held(server: Any) -> int:
    status = server.client.get("/v1/status").json()
    return int(status["models"][0]["in_flight"])


def test_sigkill_under_load_is_noticed_at_once_and_a_restart_serves(
    serve_faulty: Any, small_store: Path
) -> None:
    with serve_faulty("--store", small_store) as server, StreamClient(server.address) as stream:
        token = stream.start()["resume"]
        server.process.send_signal(Fault.HOLD)
        lost: list[str] = []

        def ask() -> None:
            with Load(server.url, clients=3) as load:
                load.wait(3)
                load.stop()
            lost.extend(load.outcomes)

        asking = threading.Thread(target=ask)
        asking.start()
        wait_until(lambda: held(server) == 3, "requests wait and run")
        server.process.send_signal(signal.SIGKILL)
        assert server.process.wait(timeout=60) == -signal.SIGKILL
        with pytest.raises(CutError):
            stream.rest()
        asking.join(60)
        assert not asking.is_alive()
        assert set(lost) <= {"ReadError", "RemoteProtocolError", "ConnectError", "WriteError"}

        with serve_faulty("--store", small_store, "--port", server.address[1]) as again:
            assert again.address == server.address
            assert again.client.get("/v2/health/ready").status_code == 200
            assert is_right(again.client.post(INFER, json=question(5.0)).json(), 5.0)
            with StreamClient(again.address) as lost_stream:
                lost_stream.send({"type": "resume", "token": token})
                error, code = lost_stream.error()
            assert (error["code"], code) == ("unknown_stream", 4404)
            assert "no stream" in error["detail"]
