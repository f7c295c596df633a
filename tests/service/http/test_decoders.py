"""Decoding takes turns, within bounds; nothing is decoded for who has gone or can not be answered in time."""

from __future__ import annotations

import asyncio
import threading
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Message

from service.engine import DeadlineExceededError, Limits, OverloadedError
from service.http.decoders import Decoders
from service.http.refusals import Refusal, Refusals
from tests.service.faults.load import wait_until


class Bench:
    """A decoder of one thread, which works until it is told to end.

    Attributes:
        done: what was decoded, in this order.
    """

    def __init__(self, rows: int = 100, nbytes: int = 1000) -> None:
        self.refusals: Refusals = Counter()
        self.decoders = Decoders(1, Limits(rows, nbytes), self.refusals)
        self.done: list[str] = []
        self.release = threading.Event()
        self.gone = asyncio.Event()

    def decode(self, name: str) -> str:
        assert self.release.wait(60)
        self.done.append(name)
        return name.upper()

    async def begin(self, name: str, size: int = 1, seconds: float = 60, leaves: bool = False) -> Any:
        """A request that waits, or has its turn; `leaves`: its client goes when all such are told to."""

        async def receive() -> Message:
            await (self.gone if leaves else asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        when = asyncio.get_running_loop().time() + seconds
        request = Request({"type": "http", "momentum.deadline": when}, receive)
        task = asyncio.create_task(self.decoders.run(request, size, self.decode, name))
        await asyncio.sleep(0.01)
        return task


def bench(check: Callable[[Bench], Awaitable[None]], **limits: int) -> Bench:
    """Run a check on a bench of its own."""

    async def main() -> Bench:
        made = Bench(**limits)
        with made.decoders:
            await asyncio.wait_for(check(made), 60)
        return made

    return asyncio.run(main())


def test_turns_are_taken_in_order() -> None:
    async def check(bench: Bench) -> None:
        tasks = [await bench.begin(name) for name in "abc"]
        bench.release.set()
        assert await asyncio.gather(*tasks) == ["A", "B", "C"]

    assert bench(check).done == ["a", "b", "c"]


@pytest.mark.parametrize(("limits", "size"), [({"rows": 2}, 1), ({"nbytes": 10}, 5)])
def test_no_more_waits_than_may(limits: dict[str, int], size: int) -> None:
    async def check(bench: Bench) -> None:
        tasks = [await bench.begin(name, size) for name in "abc"]  # one of which has its turn
        refused = await bench.begin("d", size)
        with pytest.raises(OverloadedError, match=r"^2 images or recordings of \d+ bytes wait to be") as told:
            await refused
        assert told.value.retry_after >= 1
        bench.release.set()
        assert await asyncio.gather(*tasks) == ["A", "B", "C"]
        assert await (await bench.begin("e", size)) == "E"

    assert bench(check, **limits).refusals == {Refusal.DECODERS: 1}


def test_a_lone_upload_may_be_of_any_size() -> None:
    async def check(bench: Bench) -> None:
        bench.release.set()
        assert await (await bench.begin("a", 10**9)) == "A"

    bench(check)


def test_no_more_is_held_than_may() -> None:
    async def check(bench: Bench) -> None:
        hold = bench.decoders.hold
        message = "^recordings of 1000000000 bytes, decoded, wait"
        with (
            hold(10**9),
            pytest.raises(OverloadedError, match=message),
            hold(1),
        ):  # a lone one may be of any size
            pass
        with pytest.raises(ZeroDivisionError), hold(600):
            raise ZeroDivisionError
        with hold(600), hold(400), pytest.raises(OverloadedError), hold(1):
            pass
        with hold(600), hold(400):
            pass

    assert bench(check).refusals == {Refusal.DECODERS: 2}


def test_what_can_not_be_answered_in_time_is_not_decoded() -> None:
    async def check(bench: Bench) -> None:
        running = await bench.begin("a")
        for seconds in (0.05, 0, -1):
            late = await bench.begin("late", seconds=seconds)
            with pytest.raises(DeadlineExceededError):
                await late
        bench.release.set()
        await running
        with pytest.raises(DeadlineExceededError):
            await (await bench.begin("late", seconds=-1))
        assert await (await bench.begin("b")) == "B"

    made = bench(check)
    assert made.done == ["a", "b"]
    assert made.refusals == {Refusal.DEADLINE: 4}


def test_nothing_is_decoded_for_who_has_gone() -> None:
    async def check(bench: Bench) -> None:
        leaving = [await bench.begin(name, leaves=True) for name in "abc"]
        stays = await bench.begin("d")
        bench.gone.set()
        for task in leaving:
            with pytest.raises(ClientDisconnect):
                await task
        await asyncio.sleep(0.05)
        assert bench.done == []  # the first goes on, as a thread can't be stopped, and nobody takes its place
        bench.release.set()
        assert await stays == "D"

    assert bench(check).done == ["a", "d"]


def png(side: int) -> bytes:
    """A white image with a line across, small as a file."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
        )

    rows = [b"\0" + (b"\0" if side // 3 < row < side // 2 else b"\xff") * side for row in range(side)]
    head = side.to_bytes(4, "big") * 2 + b"\x08\0\0\0\0"
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"".join(rows), 1))
        + chunk(b"IEND", b"")
    )


def test_images_that_take_long_to_decode_are_refused_beyond_the_limit(serve: Any, small_store: Path) -> None:
    image = png(6000)
    with serve("--store", small_store, "--queue-rows", 1) as server:

        def ask(_: int) -> httpx.Response:
            response: httpx.Response = server.client.post("/v1/digits", content=image)
            return response

        with ThreadPoolExecutor(16) as clients:
            answers = [*clients.map(ask, range(16))]
        assert {answer.status_code for answer in answers} == {200, 429}
        # Of those that were decoded, the engine may refuse some itself.
        refused = [answer for answer in answers if "wait to be decoded" in answer.text]
        assert refused
        assert {answer.status_code for answer in refused} == {429}
        assert int(refused[0].headers["retry-after"]) >= 1
        assert refused[0].json()["title"] == "Overloaded"

        def counted() -> bool:
            return f'{{reason="decoders"}} {len(refused)}' in server.client.get("/metrics").text

        wait_until(counted, "counted")
