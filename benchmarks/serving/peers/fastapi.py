"""FastAPI, as one writes it by hand: two processes, a request a run, no batching."""

from __future__ import annotations

import numpy as np
import orjson
import uvicorn
from fastapi import FastAPI, Request, Response

from benchmarks.serving.digits import Digits
from benchmarks.serving.ports import HOST, given_port

app = FastAPI()
digits = Digits()


@app.post("/json")
async def read_json(request: Request) -> Response:
    """{"pixels": [784 numbers]}."""
    pixels = np.array(orjson.loads(await request.body())["pixels"], np.float32)
    return _answer(pixels)


@app.post("/raw")
async def read_raw(request: Request) -> Response:
    """784 float32."""
    return _answer(np.frombuffer(await request.body(), np.float32))


def _answer(pixels: np.ndarray) -> Response:
    # in the event loop's thread: a process has a core, and a hop to another thread costs more than it gives
    probabilities = digits(pixels[None])[0]
    body = orjson.dumps({"probabilities": probabilities}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, media_type="application/json")


if __name__ == "__main__":
    uvicorn.run(
        f"{__package__}.fastapi:app",
        host=HOST,
        port=given_port(),
        workers=2,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
