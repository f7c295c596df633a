"""A Ray Serve application: `serve run service.ray:app`. Each model of the store is a deployment, whose
replicas are servers of that model alone; an ingress finds one for every request. docs/ray.md has the rest.
"""

from __future__ import annotations

from typing import Any

from service.settings import Settings


def __getattr__(name: str) -> Any:
    """`app`, made when it is asked for: replicas import this package too, and have no store to look into."""
    if name != "app":
        raise AttributeError(name)
    from service.ray.application import build

    return build(Settings.from_command_line([]))
