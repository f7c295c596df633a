"""The server: artifacts from a store, answered over HTTP. `python -m service` runs it.

The engine works without the web server:

    async with Engine(store, lanes=2) as engine:
        answer = await engine.infer("digits", {"pixels": pixels, "lengths": lengths}, ["probabilities"])
"""

from service.app import create_app
from service.engine import Engine
from service.settings import Settings

__all__ = ["Engine", "Settings", "create_app"]
