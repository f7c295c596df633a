"""What is wrong with a request."""

from __future__ import annotations


class InvalidRequestError(ValueError):
    """A request that breaks the protocol, or does not fit the model; the message says what was sent and what
    was expected.
    """
