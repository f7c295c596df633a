"""The date that answers have."""

from __future__ import annotations

import time
from email.utils import formatdate

from uvicorn.server import ServerState


class Date:
    """Keeps the date in a server's headers, and does nothing while nobody asks, where uvicorn wakes for it.

    Args:
        state: the server's, whose headers every answer gets.
    """

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._until = 0.0

    def renew(self) -> None:
        """Tell the second that it is."""
        now = time.time()
        if not self._until - 1 <= now < self._until:  # so that a clock that is set back is followed
            self._until = int(now) + 1
            self._state.default_headers = [(b"date", formatdate(now, usegmt=True).encode())]
