"""GET /v2/health/live and /v2/health/ready, as the Open Inference Protocol names them."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from service.engine import Engine

router = APIRouter(prefix="/v2/health", tags=["health"])


class Live(BaseModel):
    """The process answers."""

    live: bool


class Ready(BaseModel):
    """`ready`: requests are answered, by models that are loaded and checked. `live` repeats it, for clients
    that read the protocol's text to the letter.
    """

    ready: bool
    live: bool
    problems: list[str] = Field(description="What is not as it should be, though requests may be answered.")


@router.head("/live", include_in_schema=False)  # as some probes and load balancers ask
@router.get("/live", summary="Is the process up?")
async def live() -> Live:
    """Answers as long as the process does."""
    return Live(live=True)


@router.head("/ready", include_in_schema=False)
@router.get(
    "/ready", summary="Are requests answered?", responses={503: {"model": Ready, "description": "Not ready"}}
)
async def ready(request: Request, response: Response) -> Ready:
    """200 when every model is loaded and has replayed its golden pair and all lanes run, else 503, as it is
    while the server drains. A version that can't be loaded is a problem, but another one is served.
    """
    engine: Engine = request.app.state.engine
    draining: bool = request.app.state.draining
    ready = engine.ready and not draining
    response.status_code = 200 if ready else 503
    return Ready(ready=ready, live=ready, problems=["draining"] * draining + engine.problems)
