"""What clients sent, as errors tell it."""

from __future__ import annotations

from typing import Any


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
