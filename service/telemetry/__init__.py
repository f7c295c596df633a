"""What operators see of the server: metrics, its status, and traces."""

from __future__ import annotations

from fastapi import FastAPI, Response

from service.engine import Engine
from service.http.counts import RequestCounts
from service.http.refusals import Refusals
from service.streams.registry import Registry
from service.telemetry.device import Device
from service.telemetry.metrics import Metrics
from service.telemetry.status import Overview, Status

__all__ = ["install"]

_TEXT = {"schema": {"type": "string"}}


def install(
    app: FastAPI, engine: Engine, streams: Registry, requests: RequestCounts, refusals: Refusals
) -> None:
    """Give the application the endpoints for operators.

    Args:
        app: the application.
        engine: runs the models.
        streams: all of them.
        requests: counts those of HTTP.
        refusals: counts what was refused before it came to a route.
    """
    device = Device.of(engine)
    app.add_api_route(
        "/v1/status",
        Overview(engine, device, streams).__call__,
        response_model=Status,
        tags=["operations"],
        summary="How is the server?",
    )
    app.add_api_route(
        "/metrics",
        Metrics(engine, device, streams, requests, refusals).__call__,
        response_class=Response,
        responses={
            200: {
                "description": "The metrics, in the text format that `Accept` asks for.",
                "content": {"text/plain": _TEXT, "application/openmetrics-text": _TEXT},
            }
        },
        tags=["operations"],
        summary="What has been counted?",
    )
