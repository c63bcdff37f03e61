"""Watches the coil that runs for roll marks: an alarm some five turns after the first mark, once for each mark."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from edge.coverage.coil_grading import MarkOnSide, with_rolls
from edge.coverage.defect_bands import Breathe, PlacedDefect, Unseen
from edge.coverage.roll_marks import MIN_MEMBERS, Background, RollMark, Search, find_marks
from edge.coverage.rolls import Roll

BACK_M: Final = 60.0
"""How far back defects are searched."""
BAND_MM: Final = 36.0
"""How far across: a mark wanders."""
MAX_WINDOW: Final = 4000
"""Defects of one surface that are remembered."""
MAX_BAND: Final = 150
"""Defects of one band that are searched, the newest."""
EXPECTED_M: Final = 1000.0
"""Length of a usual coil: the chance of a mark is that of a whole coil."""
MIN_PAIRS: Final = 50
BAND_TIMES: Final = 8
"""How much more of a broken scratch a coil may have than is searched at once."""
MAX_MARKS: Final = 50
SAME_SHARE: Final = 0.01
"""Of the period, within which two finds are one mark."""

Parts = Iterable[tuple[float, float]]


class RollMarkWatch:
    """Owned by one thread.  Memory and the cost of each defect are bounded."""

    def __init__(self, table: Iterable[Roll], day: str | None, search: Search | None = None) -> None:
        """table: the rolls.  day: of the coil's start, YYYY-MM-DD; None: unknown."""
        self._table = tuple(table)
        self._day = day
        self._search = search or Search()
        self._windows: dict[str | None, deque[PlacedDefect]] = {}
        self._marks: list[MarkOnSide] = []

    @property
    def marks(self) -> tuple[MarkOnSide, ...]:
        """All marks of the coil so far, in the order of their alarms."""
        return tuple(self._marks)

    def set_table(self, table: Iterable[Roll]) -> None:
        """Other rolls, from now on."""
        self._table = tuple(table)

    def add(
        self,
        surface: str | None,
        defect: PlacedDefect,
        unseen: Callable[[], Parts] = tuple,
        excluded_m: Sequence[float] = (),
        breathe: Breathe = lambda: None,
    ) -> tuple[MarkOnSide, ...]:
        """Take in a defect that was closed.  Returns the marks that are suspected from now on, usually none.

        unseen: the parts of the coil that were not inspected on this surface.
        """
        window = self._windows.setdefault(surface, deque(maxlen=MAX_WINDOW))
        window.append(defect)
        while window and window[0].m < defect.m - 2 * BACK_M:
            window.popleft()
        from_m, across_mm = defect.m - BACK_M, defect.across_mm
        recent = [one for one in window if one.m >= from_m]
        band = [one for one in recent if abs(one.across_mm - across_mm) <= BAND_MM]
        if len(band) < MIN_MEMBERS:
            return ()
        if defect.m < max(one.m for one in band):  # defects close in another order than they pass
            return ()
        parts = [(start, end) for start, end in unseen() if end >= from_m]
        # Backwards from the newest defect: marks that end before it were found with their own last one.
        found = find_marks(
            [replace(one, m=-one.m) for one in sorted(band, key=lambda one: one.m)[-MAX_BAND:]],
            [(-end, -start) for start, end in parts],
            excluded_m,
            self._background(recent, band),
            self._search,
            breathe,
            first_only=True,
        )
        fresh = [mark for mark in map(_forwards, found.marks) if not self._extend(surface, mark, parts)]
        suspected = [with_rolls(mark, surface, self._table, self._day) for mark in fresh]
        self._marks += suspected
        del self._marks[MAX_MARKS:]
        return tuple(suspected)

    def _background(self, recent: Sequence[PlacedDefect], band: Sequence[PlacedDefect]) -> Background:
        """What is usual beside this band, and how many pairs a whole coil has by chance."""
        search = self._search
        length_m = min(BACK_M, max(1.0, max(one.m for one in recent) - min(one.m for one in recent)))
        across = [one.across_mm for one in recent]
        width_mm = max(200.0, max(across) - min(across))
        others = max(1, len(recent) - len(band))
        usual = others * 2 * search.across_mm / width_mm / length_m
        reach_m = 3 * search.longest_m  # one revolution apart, or two
        pairs = int(EXPECTED_M * others / length_m * usual * reach_m) + BAND_TIMES * _pairs(band, search)
        return Background(min(max(pairs, MIN_PAIRS), 10 * search.max_pairs), usual)

    def _extend(self, surface: str | None, mark: RollMark, parts: Parts) -> bool:
        """Add what was found to the mark that it belongs to.  False: there is none."""
        for k, known in enumerate(self._marks):
            if known.surface == surface and _is_same(known.mark, mark):
                self._marks[k] = replace(known, mark=_joined(known.mark, mark, Unseen(parts)))
                return True
        return len(self._marks) >= MAX_MARKS


def _pairs(band: Sequence[PlacedDefect], search: Search) -> int:
    """Hypotheses in a band: pairs of defects, one revolution apart, or two."""
    at = sorted(one.m for one in band)[-MAX_BAND:]
    return sum(
        bisect_right(at, m + turns * search.longest_m) - bisect_right(at, m + turns * search.shortest_m)
        for m in at
        for turns in (1, 2)
    )


def _forwards(mark: RollMark) -> RollMark:
    return replace(mark, members=mark.members[::-1], from_m=-mark.to_m, to_m=-mark.from_m)


def _is_same(one: RollMark, other: RollMark) -> bool:
    """Whether both are the marks of one place of a roll, at its period or a multiple or a fraction of it."""
    if abs(one.across_mm - other.across_mm) > BAND_MM:
        return False
    if len(set(one.members) & set(other.members)) >= 2:
        return True
    ratio = one.period_m / other.period_m
    return any(abs(ratio * a / b - 1) <= SAME_SHARE for a, b in ((1, 1), (1, 2), (2, 1), (1, 3), (3, 1)))


def _joined(known: RollMark, found: RollMark, unseen: Unseen) -> RollMark:
    """The mark with its new members.  The figures of the longer find hold."""
    members = (*known.members, *(seq for seq in found.members if seq not in set(known.members)))[-1000:]
    best = found if found.seen >= MIN_MEMBERS and found.log10_chance <= known.log10_chance else known
    from_m, to_m = min(known.from_m, found.from_m), max(known.to_m, found.to_m)
    uninspected = known.uninspected + sum(
        unseen.has(known.to_m + k * best.period_m) for k in range(1, int((to_m - known.to_m) / best.period_m) + 1)
    )
    places = max(len(members), round((to_m - from_m) / best.period_m) + 1 - uninspected)
    return replace(
        best,
        from_m=from_m,
        to_m=to_m,
        members=members,
        seen=len(members),
        places=places,
        uninspected=uninspected,
        across_mm=found.across_mm,
    )
