"""What is wrong with a request, in the words of JSON."""

from __future__ import annotations

from typing import Any


class InvalidRequestError(ValueError):
    """A request that breaks the protocol, or does not fit the model; the message says what was sent and what
    was expected.
    """


def describe(value: Any) -> str:
    """How JSON would call a value, with its content where that is short."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return f"the string {quote(value)}"
        case list():
            return "a list"
        case dict():
            return "an object"
        case int():
            return f"the number {value}"
        case _:
            return f"the number {value:g}"


def quote(text: str) -> str:
    """A client's text in quotes, no longer than an error should be."""
    return repr(text if len(text) <= 40 else text[:40] + "...")
