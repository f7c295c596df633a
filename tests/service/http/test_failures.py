"""What the engine could not do, as a client is told of it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI

from service.engine import LaneDiedError
from service.http import failures, problems
from tests.service.faults.launcher import Fault
from tests.service.faults.load import question, wait_until

PIXELS = {"pixels": [0, 1] * 392}


@pytest.mark.parametrize("path", ["/v1/x", "/v2/x"])
def test_what_a_dead_lane_ran_may_be_tried_again(path: str) -> None:
    app = FastAPI()
    problems.install(app)
    failures.install(app)

    @app.get(path)
    async def endpoint() -> None:
        raise LaneDiedError("the thread that ran the request ended; try again")

    async def main() -> httpx.Response:
        structlog.contextvars.bind_contextvars(request_id="1")
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as client:
            return await client.get(path)

    check_interrupted(asyncio.run(main()))


def test_a_lane_that_dies(serve: Any, small_store: Any) -> None:
    module = "tests.service.faults.launcher"
    with serve("--store", small_store, "--lanes", 1, module=module) as server:
        for path, body in (("/v2/models/digits/infer", question(5.0)), ("/v1/digits", PIXELS)):
            server.process.send_signal(Fault.KILL_LANE)
            response = server.client.post(path, json=body)
            server.process.send_signal(Fault.RELEASE)
            check_interrupted(response)
            wait_until(lambda: server.client.get("/v2/health/ready").status_code == 200, "ready again")


def check_interrupted(response: httpx.Response) -> None:
    assert (response.status_code, response.headers["retry-after"]) == (500, "1")
    document = response.json()
    detail = "the thread that ran the request ended; try again"
    if response.url.path.startswith("/v2"):
        assert document == {"error": detail}
    else:
        assert (document["type"], document["detail"]) == ("urn:momentum-serve:problem:interrupted", detail)
