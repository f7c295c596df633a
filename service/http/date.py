"""The date that answers have."""

from __future__ import annotations

import time
from email.utils import formatdate


class Date:
    """The header, made anew when a second is over and somebody asks; uvicorn wakes for it."""

    def __init__(self) -> None:
        self._until = 0.0
        self._headers: list[tuple[bytes, bytes]] = []

    def headers(self) -> list[tuple[bytes, bytes]]:
        """That tell the second that it is."""
        now = time.time()
        if not self._until - 1 <= now < self._until:  # so that a clock that is set back is followed
            self._until = int(now) + 1
            self._headers = [(b"date", formatdate(now, usegmt=True).encode())]
        return self._headers
