"""Times several calls in turns, so that all of them see the same state of the machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import quantiles
from typing import Final

from edge.host.clock import Clock

WARM_UP: Final = 10
BURST: Final = 5
"""Calls in a row that count before the next path has its turn, after one that brings its weights into the caches."""


def interleaved(
    calls: Sequence[Callable[[], object]],
    rounds: int,
    clock: Clock,
    on_round: Callable[[], None] = lambda: None,
    *,
    burst: int = 0,
    warm_up: int = WARM_UP,
    limit_ns: int | None = None,
    min_rounds: int = 0,
) -> list[list[int]]:
    """Run each call in every round.  Returns the times of each call, ns.

    burst: calls in a row per round, after one that is not timed because the neighbours have emptied its caches; 0: one
    call, with the caches as they are.  warm_up: calls that are not timed, before the first round.  limit_ns: no round
    starts later than that after the warm-up, once there are min_rounds.
    """
    for call in calls:
        for _ in range(warm_up):
            call()
    times: list[list[int]] = [[] for _ in calls]
    until_ns = None if limit_ns is None else clock.monotonic_ns() + limit_ns
    for done in range(rounds):
        if until_ns is not None and done >= min_rounds and clock.monotonic_ns() >= until_ns:
            break
        for kept, call in zip(times, calls, strict=True):
            if burst:
                call()
            for _ in range(burst or 1):
                started_ns = clock.monotonic_ns()
                call()
                kept.append(clock.monotonic_ns() - started_ns)
        on_round()
    return times


def lower_quartile_ns(times: Sequence[int]) -> float:
    """The time that the quickest quarter of the calls keeps to: other work on the machine slows only the rest."""
    return quantiles(times, n=4)[0]
