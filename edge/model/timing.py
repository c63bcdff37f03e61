"""Timing of several things beside each other: they take turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from edge.host.clock import Clock

WARM_UP: Final = 10
BURST: Final = 5
"""Calls in a row that count before the next path has its turn, behind one that brings its weights into the caches."""


def interleaved(
    calls: Sequence[Callable[[], object]],
    rounds: int,
    clock: Clock,
    on_round: Callable[[], None] = lambda: None,
    *,
    burst: int = 0,
) -> list[list[int]]:
    """Each call in every round, so that all of them see the same moods of the machine.  Returns ns.

    burst: so often in a row, behind a call that does not count, because the neighbours have emptied its caches.
    0: once, with what they left.
    """
    for call in calls:
        for _ in range(WARM_UP):
            call()
    times: list[list[int]] = [[] for _ in calls]
    for _ in range(rounds):
        for kept, call in zip(times, calls, strict=True):
            if burst:
                call()
            for _ in range(burst or 1):
                started = clock.monotonic_ns()
                call()
                kept.append(clock.monotonic_ns() - started)
        on_round()
    return times
