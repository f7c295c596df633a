"""A thread that runs the models dies. (infinity#544: the service hangs, and its health stays green.)"""

from __future__ import annotations

from typing import Any

import pytest

from tests.service.faults.launcher import Fault
from tests.service.faults.load import RIGHT, Load, wait_until


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_dead_engine_thread_fails_its_requests_flips_readiness_and_is_replaced(
    serve_faulty: Any, small_store: Any, lanes: int
) -> None:
    with serve_faulty("--store", small_store, "--lanes", lanes) as server, Load(server.url) as load:
        load.wait(10)
        server.process.send_signal(Fault.KILL_LANE)
        wait_until(lambda: not ready(server)["ready"], "unready")
        (problem,) = ready(server)["problems"]
        assert problem.startswith("lane ")
        assert problem.endswith(" died and is being replaced")
        assert server.client.get("/v2/health/live").status_code == 200
        if lanes == 2:
            load.wait(10)  # the other one goes on
        server.process.send_signal(Fault.RELEASE)  # without one, requests have waited
        wait_until(lambda: ready(server) == {"ready": True, "live": True, "problems": []}, "ready again")
        before = len(load.outcomes)
        load.wait(10)
        load.stop()
        load.join()
        failed = [outcome for outcome in load.outcomes if outcome != RIGHT]
        assert 1 <= len(failed) <= 6  # as many as there are clients: those of one batch
        assert set(failed) == {"500"}
        assert set(load.outcomes[before:]) == {RIGHT}
        events = [line["event"] for line in server.log()]
        assert (events.count("lane died"), events.count("lane replaced")) == (1, 1)


def ready(server: Any) -> Any:
    return server.client.get("/v2/health/ready").json()
