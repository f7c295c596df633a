"""What happens around every request, from the outside in."""

from __future__ import annotations

import time

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from service.http.access import AccessControl
from service.http.counts import RequestCounts
from service.http.deadline import TIMEOUT, RequestDeadline
from service.http.keys import Keys
from service.http.middleware import BodyLimit, RequestContext
from service.http.refusals import Refusals
from service.settings import Settings


def install(app: FastAPI, settings: Settings, requests: RequestCounts, refusals: Refusals) -> None:
    """Give the application its middleware.

    Args:
        app: the application.
        settings: the limits.
        requests: counts them all.
        refusals: counts those that were refused on the way.

    Raises:
        KeyFileError: the file of API keys can't be read.
    """
    keys = None if settings.api_keys is None else Keys(settings.api_keys, time.monotonic)
    # the last one added is the outermost
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes, refusals=refusals)
    app.add_middleware(
        RequestDeadline,
        default=settings.request_seconds,
        longest=settings.max_request_seconds,
        refusals=refusals,
    )
    app.add_middleware(AccessControl, keys=keys, clock=time.monotonic, refusals=refusals)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "X-API-Key", "Content-Type", "X-Request-ID", TIMEOUT],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    app.add_middleware(RequestContext, refusals=refusals, requests=requests)
