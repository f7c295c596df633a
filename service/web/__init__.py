"""The page at /: plain HTML, CSS and ES modules in `static`, as they are. They use the public API only."""

from service.web.routes import install

__all__ = ["install"]
