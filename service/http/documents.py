"""JSON from clients, read within bounds."""

from __future__ import annotations

from typing import Any

import orjson


class JSONTooLargeError(ValueError):
    """There is more of it than is read; the message says how much, and how much may be."""


def read_json(text: bytes, most_bytes: int, most_containers: int) -> Any:
    """What JSON says. orjson keeps Python's lock meanwhile, whatever thread it runs in, and an empty list is
    three bytes of JSON but many times that in memory: 8 MiB of them were a second and 280 MB.

    Args:
        text: the JSON.
        most_bytes: how long it may be.
        most_containers: how many lists and objects it may have, counted with the brackets in strings.

    Raises:
        JSONTooLargeError
        orjson.JSONDecodeError: it is none.
    """
    if len(text) > most_bytes:
        raise JSONTooLargeError(f"{len(text)} bytes of JSON; expected at most {most_bytes}")
    if len(text) > 2 * most_containers:  # each is two bytes at least
        containers = text.count(b"[") + text.count(b"{")
        if containers > most_containers:
            raise JSONTooLargeError(f"{containers} lists and objects; expected at most {most_containers}")
    return orjson.loads(text)
