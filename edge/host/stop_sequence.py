"""Stops the parts of the node one after the other, whatever each of them does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from edge.host.clock import NS_PER_S, Clock

log = logging.getLogger(__name__)

MIN_STEP_S: Final = 0.1
"""A part gets this time even when the time of the whole stop is used up."""


class StopSequence:
    """Gives each part its time, within the time of the whole stop.  Owned by one thread."""

    def __init__(self, clock: Clock, end_ns: int) -> None:
        """end_ns: when the last part should have stopped, monotonic."""
        self._clock = clock
        self._end_ns = end_ns
        self.left_behind: list[str] = []
        """Parts that still run."""

    def step(self, name: str, limit_s: float, stop: Callable[[float], object]) -> bool:
        """Stop one part; a part that raises must not keep the next ones from their stop.

        stop: waits at most as many seconds as it is given; returns False when the part still runs.
        """
        left_s = (self._end_ns - self._clock.monotonic_ns()) / NS_PER_S
        has_ended = False
        try:
            has_ended = stop(max(MIN_STEP_S, min(limit_s, left_s))) is not False
        except Exception:  # the stop goes on
            log.exception("%s does not stop in order", name)
        if not has_ended:
            log.error("%s still runs and is left behind", name)
            self.left_behind.append(name)
        return has_ended

    def act(self, name: str, action: Callable[[], object]) -> None:
        """Do something between two parts, whatever comes of it."""
        try:
            action()
        except Exception:  # the stop goes on
            log.exception("%s has failed", name)
