"""GET /v2/health/live and /v2/health/ready, as the Open Inference Protocol names them."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from service.engine.engine import Engine

router = APIRouter(prefix="/v2/health", tags=["health"])


class Live(BaseModel):
    """The process answers."""

    live: bool


class Ready(BaseModel):
    """`ready`: models are loaded and checked. `live` repeats it, for clients that read the protocol's text to
    the letter.
    """

    ready: bool
    live: bool


@router.get("/live", summary="Is the process up?")
async def live() -> Live:
    """Answers as long as the process does."""
    return Live(live=True)


@router.get(
    "/ready", summary="Are requests answered?", responses={503: {"model": Ready, "description": "Not ready"}}
)
async def ready(request: Request, response: Response) -> Ready:
    """200 when every model is loaded and has replayed its golden pair, else 503."""
    engine: Engine = request.app.state.engine
    response.status_code = 200 if engine.ready else 503
    return Ready(ready=engine.ready, live=engine.ready)
