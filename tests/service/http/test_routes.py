"""Routes past FastAPI's machinery, and waiting for as long as somebody does."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Message

from service.http import problems
from service.http.problems import Problem
from service.http.routes import Answered, BareRoute, rendered, while_connected


def test_a_bare_route_is_routed_described_and_fails_like_others() -> None:
    async def greet(request: Request) -> Response:
        """Says hello."""
        if request.path_params["name"] == "nobody":
            raise Problem(404, "Nobody", "there is nobody of that name")
        return Response(f"hello, {request.path_params['name']}")

    app = FastAPI()
    problems.install(app)
    extra = {"parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}]}
    BareRoute.add(app, "/v2/greet/{name}", greet, methods=["POST"], summary="Greet", openapi_extra=extra)

    async def main() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as client:
            return [
                await client.post("/v2/greet/ada"),
                await client.post("/v2/greet/nobody"),
                await client.get("/v2/greet/ada"),
            ]

    greeted, failed, wrong_method = asyncio.run(main())
    assert greeted.text == "hello, ada"
    assert (failed.status_code, failed.json()) == (404, {"error": "there is nobody of that name"})
    assert wrong_method.status_code == 405
    operation = app.openapi()["paths"]["/v2/greet/{name}"]["post"]
    assert (operation["summary"], operation["description"]) == ("Greet", "Says hello.")
    assert operation["parameters"] == extra["parameters"]


def test_an_answer_that_cannot_be_rendered_is_called_back_with_why() -> None:
    told: list[Answered] = []
    for outputs in ({}, ValueError("poison")):
        rendered(told.append, outputs, lambda tensors: Response(str(tensors["y"])))
    assert [repr(error) for error in told] == ["KeyError('y')", "ValueError('poison')"]


class Client:
    """A request whose client leaves when told to."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    @property
    def request(self) -> Request:
        return Request({"type": "http"}, self.receive)


def test_an_answer_is_passed_on() -> None:
    async def main() -> None:
        async def work() -> int:
            await asyncio.sleep(0)
            return 7

        async def watch() -> Message:
            raise AssertionError("a client that is answered at once is not watched")

        assert await while_connected(Request({"type": "http"}, watch), work()) == 7
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_an_error_is_passed_on() -> None:
    async def main() -> None:
        async def work() -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await while_connected(Client().request, work())

    asyncio.run(main())


def test_work_ends_when_the_client_is_gone() -> None:
    async def main() -> None:
        client = Client()
        cancelled = False

        async def work() -> None:
            nonlocal cancelled
            client.gone.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled = True
                raise

        with pytest.raises(ClientDisconnect):
            await while_connected(client.request, work())
        assert cancelled
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()

    asyncio.run(main())


def test_a_cancelled_task_stays_cancelled() -> None:
    async def main() -> None:
        started = asyncio.Event()

        async def work() -> None:
            started.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(while_connected(Client().request, work()))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
