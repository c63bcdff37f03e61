"""Keeps repeated messages from flooding the log: each once per interval, with the number of those left out."""

from __future__ import annotations

import logging
from typing import Final

from edge.host.clock import NS_PER_S

INTERVAL_S: Final = 60.0
MAX_KEYS: Final = 64


class LogThrottle:
    """Decides which messages reach the log.  Owned by one thread."""

    def __init__(self, log: logging.Logger, interval_s: float = INTERVAL_S) -> None:
        self._log = log
        self._interval_ns = int(interval_s * NS_PER_S)
        self._seen: dict[str, tuple[int, int]] = {}
        """By key: when it was last logged, monotonic, and how often it was left out since."""

    def ready(self, key: str, now_ns: int) -> int | None:
        """How many messages with this key were left out since the last one; None: leave this one out, too."""
        last = self._seen.get(key)
        if last is not None and now_ns - last[0] < self._interval_ns:
            self._seen[key] = last[0], last[1] + 1
            return None
        if last is None and len(self._seen) >= MAX_KEYS:
            self._seen.clear()
        self._seen[key] = now_ns, 0
        return 0 if last is None else last[1]

    def write(self, level: int, message: str, now_ns: int) -> bool:
        """Log the message unless it was logged within the interval.  Returns whether it was logged."""
        left_out = self.ready(message, now_ns)
        if left_out is None:
            return False
        self._log.log(level, "%s%s", message, f" ({left_out} more times since)" if left_out else "")
        return True
