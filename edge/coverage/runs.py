"""Runs: which meters of the strip were inspected whole, in part or not at all, to the frame's resolution."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, Literal

RunKind = Literal["whole", "partial", "missed", "unknown"]
"""unknown: nothing says what happened there; the record itself lost it."""
WORSE: Final[tuple[RunKind, ...]] = ("whole", "partial", "missed", "unknown")
"""From the best to the worst."""
RunCause = Literal["overload", "bad_image", "no_signal", "paused", "unseen", "record"]
"""unseen: no frame showed these meters; record: the record lost what happened."""
MAX_RUNS: Final = 512
"""Runs that wait; above that the two neighbours that lose least become one, of the worse kind."""
TOUCH_M: Final = 1e-6
"""Runs that are closer touch each other."""


@dataclass(frozen=True, slots=True)
class Run:
    """Meters of one kind.  from_m, to_m: along the strip.  segment: only runs of one segment can be compared."""

    from_m: float
    to_m: float
    kind: RunKind
    cause: RunCause | None = None
    segment: int = 0

    @property
    def length_m(self) -> float:
        return self.to_m - self.from_m

    def joined(self, other: Run) -> Run | None:
        """One run of this and the one that follows it; None where they differ or do not touch."""
        if not self._touches(other) or (self.kind, self.cause) != (other.kind, other.cause):
            return None
        return replace(self, to_m=other.to_m)

    def worst_with(self, other: Run) -> Run:
        """Both as one run of the worse kind: knowledge never improves."""
        worse = max(self, other, key=lambda run: WORSE.index(run.kind))
        return replace(worse, from_m=self.from_m, to_m=other.to_m)

    def _touches(self, other: Run) -> bool:
        return self.segment == other.segment and abs(other.from_m - self.to_m) <= TOUCH_M


class RunLog:
    """Runs in the order in which the strip passed, bounded.  Owned by one thread."""

    def __init__(self, max_runs: int = MAX_RUNS) -> None:
        self._max_runs = max_runs
        self._runs: list[Run] = []

    def add(self, run: Run) -> None:
        """Append a run; equal neighbours become one."""
        if run.to_m <= run.from_m:
            return
        joined = self._runs[-1].joined(run) if self._runs else None
        if joined is not None:
            self._runs[-1] = joined
            return
        self._runs.append(run)
        if len(self._runs) > self._max_runs:
            self._runs = coarsened(self._runs, self._max_runs // 2)

    def take(self) -> tuple[Run, ...]:
        """The runs since the last call."""
        runs, self._runs = tuple(self._runs), []
        return runs


def coarsened(runs: Iterable[Run], max_runs: int) -> list[Run]:
    """At most `max_runs` runs, where their segments allow it: what changes only becomes worse."""
    found = list(runs)
    while len(found) > max_runs:
        costs = [(_cost_m(one, other), at) for at, (one, other) in enumerate(pairwise(found))]
        cheap = sorted((cost, at) for cost, at in costs if cost is not None)
        if not cheap:
            return found[-max_runs:]  # a piece that is not there is unknown, too
        # Merge every second pair of the cheaper half at once: a merge one by one would take the square of the time.
        limit = cheap[min(len(cheap) - 1, len(found) - max_runs)][0]
        merged: list[Run] = []
        left = len(found) - max_runs
        for run in found:
            cost = _cost_m(merged[-1], run) if merged else None
            if left and cost is not None and cost <= limit:
                merged[-1] = merged[-1].worst_with(run)
                left -= 1
            else:
                merged.append(run)
        found = merged
    return found


def _cost_m(one: Run, other: Run) -> float | None:
    """Meters whose kind gets worse when both become one; None where they do not touch."""
    if one.segment != other.segment or abs(other.from_m - one.to_m) > TOUCH_M:
        return None
    if one.kind == other.kind:
        return 0.0
    better = min(one, other, key=lambda run: WORSE.index(run.kind))
    return better.length_m


def complement(runs: Iterable[Run], from_m: float, to_m: float) -> list[Run]:
    """The runs within these meters, joined, and what lies between them as unknown.  runs: of one segment, any order.

    Where runs overlap, the later one in the order of their start holds.
    """
    found: list[Run] = []
    at_m = from_m
    for run in sorted(runs, key=lambda each: each.from_m):
        start, end = max(run.from_m, at_m), min(run.to_m, to_m)
        if end <= start:
            continue
        if start - at_m > TOUCH_M:
            found.append(Run(at_m, start, "unknown", "record"))
        else:
            start = at_m
        joined = found[-1].joined(replace(run, from_m=start, to_m=end, segment=0)) if found else None
        if joined is not None:
            found[-1] = joined
        else:
            found.append(replace(run, from_m=start, to_m=end, segment=0))
        at_m = end
    if to_m - at_m > TOUCH_M:
        found.append(Run(at_m, to_m, "unknown", "record"))
    return found
