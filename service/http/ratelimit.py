"""How often a client may ask."""

from __future__ import annotations


class TokenBucket:
    """Lets `rate` requests a second through, and up to `burst` at once after a quiet time.

    Args:
        rate: tokens a second that flow in.
        burst: tokens that it holds; it begins full.
        now: the time in seconds, of a clock that never goes back.
    """

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = float(burst)
        self._at = now

    def take(self, now: float) -> float:
        """Take a token: 0 if there was one, else the seconds until there is."""
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0
        return (1 - self._tokens) / self.rate
