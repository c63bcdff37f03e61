"""Delays between attempts: doubling up to a limit, half of each random, so that many clients do not return at once."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

MAX_DOUBLINGS: Final = 30


class Backoff:
    """Counts failed attempts and gives the delay before the next one.  Owned by one thread."""

    def __init__(self, first_s: float, limit_s: float, uniform: Callable[[], float] = random.random) -> None:
        """first_s: the shortest first delay.  limit_s: the longest delay.  uniform: random numbers from 0 to 1."""
        self._first_s = first_s
        self._limit_s = limit_s
        self._uniform = uniform
        self.attempts = 0
        """Delays since the last `reset`."""

    def next_s(self) -> float:
        """Seconds to wait now: between a lower bound that doubles with each attempt, and twice that bound."""
        lower_s = min(self._first_s * 2.0 ** min(self.attempts, MAX_DOUBLINGS), self._limit_s / 2)
        self.attempts += 1
        return lower_s * (1.0 + self._uniform())

    def reset(self) -> None:
        """The attempt succeeded: the next delay is a first one."""
        self.attempts = 0
