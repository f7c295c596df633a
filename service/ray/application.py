"""The application's deployments, and how many replicas they get."""

from __future__ import annotations

import math
from typing import Any

from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from service.engine.scan import scan
from service.ray.ingress import Ingress
from service.ray.replica import LOAD, Replica
from service.settings import Settings

TARGET = 0.8  # of the lanes' time that is used, with nothing waiting: a fifth is left for what comes together
_MOST_REPLICAS = 8
_UPSCALE_SECONDS = 10
_DOWNSCALE_SECONDS = 300  # a replica that goes ends its streams


def build(settings: Settings) -> serve.Application:
    """The application. Each replica gets the settings.

    Raises:
        StoreError: there is no model.
    """
    names = sorted({name for name, _ in scan(settings.store)})
    ingress = serve.deployment(Ingress).options(
        name="ingress", max_ongoing_requests=settings.max_connections, ray_actor_options={"num_cpus": 0}
    )
    return ingress.bind({name: _deployment(name, settings).bind(name, settings) for name in names})


def _deployment(name: str, settings: Settings) -> serve.Deployment:
    return serve.deployment(Replica).options(
        name=name,
        # The engine refuses what is too much, and says when to come back; Ray would let it wait.
        max_ongoing_requests=settings.queue_rows + settings.max_streams,
        graceful_shutdown_timeout_s=settings.shutdown_seconds,
        ray_actor_options={"num_cpus": 1},
        autoscaling_config=AutoscalingConfig(
            min_replicas=1,
            max_replicas=_MOST_REPLICAS,
            upscale_delay_s=_UPSCALE_SECONDS,
            downscale_delay_s=_DOWNSCALE_SECONDS,
            policy=AutoscalingPolicy(policy_function="service.ray.application:replicas"),
        ),
    )


def replicas(context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
    """How many replicas a deployment should have, from the depth of its engines' queues.

    Requests are no measure: a live stream is one for hours, and a replica carries hundreds. Ray averages the
    loads, waits before it acts, and keeps to the least and the most that the config allows.
    """
    loads = (context.aggregated_metrics or {}).get(LOAD, {})
    if not loads:  # no replica has told yet
        return context.target_num_replicas, {}
    # A replica that has not told is not known to be busy or idle, and counts as the others do.
    whole = sum(loads.values()) / len(loads) * max(context.current_num_replicas, 1)
    return math.ceil(whole / TARGET), {}
