"""What happens around every request."""

from __future__ import annotations

import time
from typing import cast

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp

from service.http.access import AccessControl
from service.http.application import Application, ShortWay
from service.http.counts import RequestCounts
from service.http.deadline import TIMEOUT, RequestDeadline
from service.http.direct import Direct
from service.http.keys import Keys
from service.http.middleware import READ_BYTES, BodyLimit, RequestContext
from service.http.refusals import Refusals
from service.http.routes import BareRoute
from service.settings import Settings

_LENGTH = "Inference-Header-Content-Length"  # the Open Inference Protocol's, of bodies with binary tensors


def build(
    app: FastAPI, settings: Settings, requests: RequestCounts, refusals: Refusals, *, traced: bool
) -> Application:
    """The application with its middleware.

    Args:
        app: FastAPI, with all its routes.
        settings: the limits.
        requests: counts them all.
        refusals: counts those that were refused on the way.
        traced: whether FastAPI traces requests, which it does of those only that go its way.

    Raises:
        KeyFileError: the file of API keys can't be read.
    """
    keys = None if settings.api_keys is None else Keys(settings.api_keys, time.monotonic)
    bare = [route for route in app.router.routes if isinstance(route, BareRoute)]
    front: ASGIApp = ShortWay(app, [] if traced else bare)
    # from the inside out
    front = BodyLimit(front, settings.max_body_bytes, settings.max_bodies_bytes, refusals)
    front = deadlines = RequestDeadline(
        front, settings.request_seconds, settings.max_request_seconds, refusals
    )
    front = access = AccessControl(
        front,
        keys,
        settings.cors_origins,
        time.monotonic,
        refusals,
        local_admin=settings.local_admin,
    )
    if settings.cors_origins:
        front = CORSMiddleware(
            front,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT"],
            allow_headers=["Authorization", "X-API-Key", "Content-Type", "X-Request-ID", TIMEOUT, _LENGTH],
            expose_headers=["X-Request-ID", "Retry-After", _LENGTH],
        )
    context = RequestContext(front, refusals, requests)
    # What is traced, or asked by pages of elsewhere, needs layers that only ASGI has.
    plain = not (traced or settings.cors_origins)
    longest = min(READ_BYTES, settings.max_body_bytes)
    direct = Direct(app, bare, context, access, deadlines, longest) if plain else None
    # Without Starlette's outermost layer: what nothing else caught is answered by `RequestContext`.
    app.middleware_stack = cast(ServerErrorMiddleware, app.build_middleware_stack()).app
    return Application(app, context, direct)
