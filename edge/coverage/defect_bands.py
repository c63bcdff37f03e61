"""The defects of one surface, sorted so that those at one place across the strip are found quickly."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

Breathe = Callable[[], object]
"""Called every few hundred microseconds of work: lets other threads run."""


@dataclass(frozen=True, slots=True)
class PlacedDefect:
    """A defect with a known place.  seq: of its event.  m: from the start of the coil.  across_mm: from one edge."""

    seq: int
    m: float
    across_mm: float
    class_name: str = ""


@dataclass(frozen=True, slots=True)
class Streak:
    """A band so full of defects that no period stands out: a scratch or an edge, not a roll."""

    across_mm: float
    from_m: float
    to_m: float
    defects: int


class Unseen:
    """The parts of the strip that were not inspected."""

    def __init__(self, runs: Iterable[tuple[float, float]]) -> None:
        """runs: (from_m, to_m), in any order; they may overlap."""
        self._from: list[float] = []
        self._to: list[float] = []
        for from_m, to_m in sorted(runs):
            if to_m <= from_m:
                continue
            if self._to and from_m <= self._to[-1]:
                self._to[-1] = max(self._to[-1], to_m)
            else:
                self._from.append(from_m)
                self._to.append(to_m)

    def has(self, m: float) -> bool:
        """Whether this place was not inspected."""
        k = bisect_right(self._from, m) - 1
        return k >= 0 and m < self._to[k]

    def within(self, from_m: float, to_m: float) -> float:
        """Meters between these places that were not inspected."""
        total = 0.0
        for k in range(max(0, bisect_right(self._from, from_m) - 1), len(self._from)):
            if self._from[k] >= to_m:
                break
            total += max(0.0, min(to_m, self._to[k]) - max(from_m, self._from[k]))
        return total


class DefectBands:
    """Defects along the strip, of which those within `width_mm` of a place across are found.

    xs: m, sorted.  ys: mm.  An index into the two stands for a defect.
    """

    def __init__(self, xs: Sequence[float], ys: Sequence[float], width_mm: float) -> None:
        self.xs = xs
        self.ys = ys
        self._width_mm = width_mm
        self._cells: dict[int, tuple[list[float], list[int]]] = {}
        for k, (x, y) in enumerate(zip(xs, ys, strict=True)):
            at, which = self._cells.setdefault(int(y // width_mm), ([], []))
            at.append(x)
            which.append(k)

    def __len__(self) -> int:
        return len(self.xs)

    def near(self, from_m: float, to_m: float, across_mm: float) -> list[int]:
        """The defects in this band between these places, bounds included."""
        found: list[int] = []
        cell, ys, width_mm = int(across_mm // self._width_mm), self.ys, self._width_mm
        for key in (cell - 1, cell, cell + 1):
            row = self._cells.get(key)
            if row is not None:
                at, which = row
                first, last = bisect_left(at, from_m), bisect_right(at, to_m)
                found += [k for k in which[first:last] if abs(ys[k] - across_mm) <= width_mm]
        return found

    def streaks(self, per_m: float, window_m: float, breathe: Breathe) -> tuple[list[Streak], set[int]]:
        """The bands with more than so many defects a meter over a window, and the defects in them.

        Where most of them lie at one distance from the next they may be marks of a small roll: these are no streak.
        """
        streaks, members = [], set()
        many = max(2, int(per_m * window_m) + 1)
        for cell in sorted(self._cells):
            pair = [self._cells[key] for key in (cell, cell + 1) if key in self._cells]
            which = sorted(k for _, indices in pair for k in indices)
            first = 0
            while first + many <= len(which):
                last = first + many - 1
                if self.xs[which[last]] - self.xs[which[first]] > window_m:
                    first += 1
                    continue
                while last + 1 < len(which) and self.xs[which[last + 1]] - self.xs[which[last - many + 2]] <= window_m:
                    last += 1
                found = which[first : last + 1]
                if not _is_regular([self.xs[k] for k in found]):
                    fresh = [k for k in found if k not in members]
                    if len(fresh) > len(found) // 2:
                        across_mm = median(self.ys[k] for k in found)
                        streaks.append(Streak(across_mm, self.xs[found[0]], self.xs[found[-1]], len(found)))
                    members.update(found)
                first = last + 1
                breathe()
        return streaks, members


def without_doubles(
    defects: Iterable[PlacedDefect], near_m: float, width_mm: float, breathe: Breathe
) -> list[PlacedDefect]:
    """The defects along the strip; of those near each other the first remains: a cluster is no train of marks."""
    kept: list[PlacedDefect] = []
    cells: dict[int, list[PlacedDefect]] = {}
    for number, defect in enumerate(sorted(defects, key=lambda d: (d.m, d.across_mm, d.seq))):
        cell = int(defect.across_mm // width_mm)
        is_double = False
        for key in (cell - 1, cell, cell + 1):
            for other in reversed(cells.get(key, ())):
                if defect.m - other.m > near_m:
                    break
                is_double = is_double or abs(defect.across_mm - other.across_mm) <= width_mm
        if not is_double:
            kept.append(defect)
            cells.setdefault(cell, []).append(defect)
        if number % 500 == 0:
            breathe()
    return kept


def _is_regular(at: Sequence[float]) -> bool:
    gaps = [b - a for a, b in pairwise(at)]
    usual = median(gaps)
    return sum(abs(gap - usual) <= 0.018 + 0.002 * usual for gap in gaps) >= 0.4 * len(gaps)
