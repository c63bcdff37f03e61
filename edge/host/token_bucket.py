"""A rate limit that allows short bursts."""

from __future__ import annotations

from edge.host.clock import NS_PER_S


class TokenBucket:
    """Holds up to `capacity` tokens and refills with time.  Owned by one thread."""

    def __init__(self, per_s: float, capacity: int, now_ns: int) -> None:
        """per_s: tokens per second; may be changed at any time.  Starts full."""
        self.per_s = per_s
        self._capacity = float(capacity)
        self._tokens = float(capacity)
        self._refilled_ns = now_ns

    def take(self, now_ns: int) -> bool:
        """Take one token; False when none is left.  now_ns: monotonic."""
        elapsed_s = (now_ns - self._refilled_ns) / NS_PER_S
        self._refilled_ns = now_ns
        self._tokens = min(self._capacity, self._tokens + elapsed_s * self.per_s)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
