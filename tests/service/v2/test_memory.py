"""Of a request that waits, only what is needed for its answer is kept: the engine's limits count no more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI, Request, Response
from starlette.types import Message

from service.engine import Engine
from service.streams.registry import Registry
from service.streams.sequences import Sequences
from service.v2.infer import Inference
from service.v2.signature import Signatures
from tests.service.waiting import keeps_less

SIZE = 2**20
TENSOR = b'{"name":"pixels","datatype":"FP32","shape":[1,3],%s}'


def in_json() -> tuple[bytes, dict[str, str]]:
    """A tensor of three numbers, and much that means nothing."""
    tensor = TENSOR % b'"data":[0.5,0.5,1]'
    return b'{"inputs":[%s],"more":[%s]}' % (tensor, b",".join([b"1.5"] * (SIZE // 4))), {}


def in_bytes() -> tuple[bytes, dict[str, str]]:
    """Its bytes, behind much JSON that means nothing."""
    tensor = TENSOR % b'"parameters":{"binary_data_size":12}'
    text = b'{"inputs":[%s]%s}' % (tensor, b" " * SIZE)
    return text + bytes(12), {"inference-header-content-length": str(len(text))}


@pytest.mark.parametrize("sent", [in_json, in_bytes])
def test_a_request_that_waits_keeps_its_tensors_only(
    small_store: Path, sent: Callable[[], tuple[bytes, dict[str, str]]]
) -> None:
    async def receive() -> Message:
        if received:
            await asyncio.sleep(60)
        received.append(True)
        return {"type": "http.request", "body": sent()[0]}

    async def ask(inference: Inference) -> Response:
        headers = [(name.encode(), value.encode()) for name, value in sent()[1].items()]
        scope = {
            "type": "http",
            "headers": headers,
            "path_params": {"model": "digits"},
            "momentum.deadline": asyncio.get_running_loop().time() + 60,
            "app": FastAPI(),
        }
        return await inference.infer(Request(scope, receive))

    async def main() -> None:
        async with Engine(small_store, lanes=1) as engine:
            inference = Inference(engine, Sequences(engine, Registry(1), 60), Signatures())
            await ask(inference)  # what is made once is there
            received.clear()
            assert await keeps_less(engine, lambda: ask(inference), 30_000)

    received: list[bool] = []
    asyncio.run(main())
