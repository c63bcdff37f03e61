"""The map of a coil: defects of overlapping cameras as one, and the running coil within bounds of memory.

Two cameras of one surface see the same defect where their views overlap. Their defects are one on the map if they lie
within SAME_CLASS_MM of each other along and across, and are of one class, or within OTHER_CLASS_MM for two classes.
Events and the record keep both.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge.coverage import coil_record
from edge.coverage.coil_lines import Defect, Ended, Header, Interval, Item, Runs, Speed, Width
from edge.coverage.coil_record import CoilSummary, Tail, Totals
from edge.coverage.defect_bands import Breathe
from edge.coverage.runs import Run, RunLog, coarsened, complement

SAME_CLASS_MM: Final = 15.0
OTHER_CLASS_MM: Final = 5.0
SEVERITIES: Final = ("minor", "major", "critical")
"""From the least to the worst."""
MAX_DEFECTS: Final = 4_000
"""Newest defects that are kept one by one; older ones only in the bins."""
MAX_BINS: Final = 2048
BIN_M: Final = 1.0
"""Length of a bin at first; it doubles with the coil."""
MAX_RUNS: Final = 4096
"""Runs of all cameras."""
MAX_WIDTHS: Final = 4096
"""Samples of all cameras."""
MIN_EACH: Final = 128
"""Runs, and samples, of one camera that are kept in any case."""
BLOCK_BYTES: Final = 1 << 18
DEFECTS_A_PIECE: Final = 20
SHOWN_DEFECTS: Final = 500
SHOWN_RUNS: Final = 400
SHOWN_WIDTHS: Final = 400


@dataclass(frozen=True, slots=True)
class MergedDefect:
    """One defect on the map.  defects: as the cameras saw it; the first has the worst severity, then the confidence."""

    defects: tuple[Defect, ...]
    severity: str
    from_m: float | None
    to_m: float | None
    across_mm: Interval | None

    @property
    def main(self) -> Defect:
        return self.defects[0]

    def as_json(self) -> dict[str, Any]:
        main = self.main
        return {
            "seqs": [defect.seq for defect in self.defects],
            "cameras": sorted({defect.camera for defect in self.defects}),
            "track_id": main.track_id,
            "is_open": any(defect.is_open for defect in self.defects),
            "time": main.time,
            "surface": main.surface,
            "lane": main.lane,
            "class": main.class_name,
            "severity": self.severity,
            "confidence": main.confidence,
            "from_m": self.from_m,
            "to_m": self.to_m,
            "across_mm": None if self.across_mm is None else list(self.across_mm),
            "length_mm": max((d.length_mm for d in self.defects if d.length_mm is not None), default=None),
            "evidence": next((d.evidence for d in self.defects if d.evidence is not None), None),
        }


def merged(defects: Iterable[Defect], breathe: Breathe = lambda: None) -> list[MergedDefect]:
    """Defects with those of overlapping cameras as one, in the order of their places; unplaced ones last, each alone.

    Only defects of different cameras of one stated surface become one.  breathe: called after each piece of work.
    """
    ordered = sorted(defects, key=lambda each: (each.from_m is None, each.from_m or 0.0, each.seq))
    return list(merging(ordered, breathe))


def merging(ordered: Iterable[Defect], breathe: Breathe = lambda: None) -> Iterator[MergedDefect]:
    """The same for defects that come in the order of their places, unplaced ones last: only those nearby are held."""
    groups: deque[list[Defect]] = deque()
    """In the order of their first defects; one that became part of another is empty."""
    active: list[tuple[Defect, list[Defect]]] = []
    """Defects that the next ones may touch, with their groups."""
    for number, defect in enumerate(ordered):
        if number % DEFECTS_A_PIECE == 0:
            breathe()
        from_m = defect.from_m
        if from_m is None or defect.across_mm is None or defect.surface is None:
            active = active if from_m is not None else []
            groups.append([defect])
            yield from _settled(groups, active)
            continue
        active = [(other, group) for other, group in active if _end_m(other) + SAME_CLASS_MM / 1000 >= from_m]
        yield from _settled(groups, active)
        touched = [group for other, group in active if _is_same(other, defect)]
        if not touched:
            group = [defect]
            groups.append(group)
        else:
            group = touched[0]
            group.append(defect)
            for other_group in touched[1:]:
                if other_group is not group:
                    group.extend(other_group)
                    other_group.clear()
                    active = [(each, group if its is other_group else its) for each, its in active]
        active.append((defect, group))
    yield from _settled(groups, [])


def _settled(groups: deque[list[Defect]], active: Sequence[tuple[Defect, list[Defect]]]) -> Iterator[MergedDefect]:
    """Take out the first groups that no further defect can join."""
    growing = {id(group) for _, group in active}
    while groups and id(groups[0]) not in growing:
        group = groups.popleft()
        if group:
            yield _merged(group)


def _is_same(one: Defect, other: Defect) -> bool:
    """other: starts no earlier."""
    if one.camera == other.camera or one.surface != other.surface:
        return False
    assert one.across_mm is not None
    assert other.across_mm is not None
    assert other.from_m is not None
    limit_mm = SAME_CLASS_MM if one.class_name == other.class_name else OTHER_CLASS_MM
    along_mm = (other.from_m - _end_m(one)) * 1000
    across_mm = max(one.across_mm[0], other.across_mm[0]) - min(one.across_mm[1], other.across_mm[1])
    return along_mm <= limit_mm and across_mm <= limit_mm


def _end_m(defect: Defect) -> float:
    return (defect.from_m or 0.0) if defect.to_m is None else defect.to_m


def _merged(group: list[Defect]) -> MergedDefect:
    group.sort(key=lambda each: (-_rank(each.severity), -each.confidence, each.seq))
    starts = [each.from_m for each in group if each.from_m is not None]
    ends = [each.to_m for each in group if each.to_m is not None]
    across = [each.across_mm for each in group if each.across_mm is not None]
    return MergedDefect(
        tuple(group),
        group[0].severity,
        min(starts, default=None),
        max(ends, default=None),
        (min(a for a, _ in across), max(b for _, b in across)) if across else None,
    )


def _rank(severity: str) -> int:
    """An unknown severity counts as the worst: it must not look harmless."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)


class CoilMap:
    """What the lines of one record say, within bounds of memory.  Owned by one thread.

    Without a coil it goes on over the records that follow each other.
    """

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.header: Header | None = None
        self.ended: Ended | None = None
        self.reach_m = 0.0
        self.unplaced = 0
        """Defects without a place."""
        self._totals = Totals()
        self._defects: OrderedDict[str, Defect] = OrderedDict()
        self._bins: Counter[tuple[int, str | None, str]] = Counter()
        """Defects by bin, surface and severity."""
        self._bin_m = BIN_M
        self._runs: dict[str, list[Run]] = {}
        self._widths: dict[str, list[Width]] = {}
        self._speeds: list[Speed] = []

    def take(self, item: Item) -> None:
        """Take the next item of a record."""
        if self.header is None and not isinstance(item, Header):
            return
        self._note(item)
        self._totals.add(item)

    def summary(self) -> CoilSummary | None:
        """None before the first line."""
        return None if self.header is None else self._totals.summary()

    def _note(self, item: Item) -> None:
        match item:
            case Header():
                is_next = self.header is not None and self.header.coil is None and item.coil is None
                if not is_next or self.ended is None or self.ended.by != "ring":
                    self._clear()
                self._totals = Totals()
                self.header, self.ended = item, None
            case Defect():
                if self.header is not None and item.coil == self.header.coil:
                    self._note_defect(item)
            case Runs():
                self._note_runs(item)
            case Width():
                self._note_width(item)
            case Speed():
                self._speeds = [*self._speeds[-1:], item]
            case Ended():
                self.ended = item
            case _:
                pass

    def _note_runs(self, found: Runs) -> None:
        known = self._runs.setdefault(found.camera, [])
        log = RunLog()
        for run in (*known[-1:], *found.runs):
            log.add(run)
        known[-1:] = log.take()
        limit = max(MIN_EACH, MAX_RUNS // len(self._runs))
        if len(known) > limit:
            self._runs[found.camera] = coarsened(known, limit // 2)
        self.reach_m = max(self.reach_m, found.runs[-1].to_m)

    def _note_width(self, width: Width) -> None:
        known = self._widths.setdefault(width.camera, [])
        known.append(width)
        limit = max(MIN_EACH, MAX_WIDTHS // len(self._widths))
        if len(known) > limit:
            self._widths[width.camera] = thinned(known, limit // 2)

    def _note_defect(self, defect: Defect) -> None:
        before = self._defects.pop(defect.track_id, None)
        if before is not None:
            self._count(before, -1)
        self._count(defect, 1)
        self._defects[defect.track_id] = defect
        if len(self._defects) > MAX_DEFECTS:
            self._defects.popitem(last=False)

    def _count(self, defect: Defect, number: int) -> None:
        if defect.from_m is None:
            self.unplaced += number
            return
        while defect.from_m >= self._bin_m * MAX_BINS:
            self._bin_m *= 2
            self._bins = Counter(_doubled(self._bins))
        self._bins[int(defect.from_m // self._bin_m), defect.surface, defect.severity] += number

    # ---- views -----------------------------------------------------------------------------------------

    def view(self, from_m: float | None, to_m: float | None) -> dict[str, Any]:
        """The map of these meters as JSON; from_m, to_m: None: the start, the newest place.

        Up to SHOWN_DEFECTS defects one by one, otherwise none of them (`defects` is null) and the counts in `bins`.
        """
        start = 0.0 if from_m is None else max(0.0, from_m)
        end = max(self.reach_m, start) if to_m is None else max(to_m, start)
        counts = {
            place: n for place, n in self._bins.items() if n and start - self._bin_m < place[0] * self._bin_m < end
        }
        shown = None
        if self._knows(start):
            inside = [d for d in self._defects.values() if d.from_m is not None and _overlaps(d, start, end)]
            shown = merged(inside) if len(inside) <= 2 * SHOWN_DEFECTS else None
        head = self.header
        return {
            "id": None if head is None else head.id,
            "coil": None if head is None else head.coil,
            "started": None if head is None else head.started,
            "ended": None if self.ended is None else self.ended.time,
            "from_m": start,
            "to_m": end,
            "reach_m": round(self.reach_m, 3),
            "m_per_s": self._speeds[-1].m_per_s if self._speeds else None,
            "unplaced": self.unplaced,
            "defects": None if shown is None or len(shown) > SHOWN_DEFECTS else [each.as_json() for each in shown],
            "bins": {
                "length_m": self._bin_m,
                "counts": [
                    {"from_m": place * self._bin_m, "surface": surface, "severity": severity, "count": n}
                    for (place, surface, severity), n in sorted(counts.items(), key=lambda each: each[0][0])
                ],
            },
            "runs": {camera: _runs_json(runs, start, end) for camera, runs in sorted(self._runs.items())},
            "width": {camera: _widths_json(found, start, end) for camera, found in sorted(self._widths.items())},
        }

    def _knows(self, start_m: float) -> bool:
        """Whether all defects from here on are still known one by one."""
        if len(self._defects) < MAX_DEFECTS:
            return True
        oldest = next((d.from_m for d in self._defects.values() if d.from_m is not None), 0.0)
        return oldest <= start_m


class CoilMaps:
    """The map of the running coil, followed as its record grows, and that of the coil that was asked for last.

    Owned by one thread.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running = CoilMap()
        self._tail: Tail | None = None
        self._other: tuple[Path, int, CoilMap] | None = None

    def running(self, may_go_on: Callable[[], bool]) -> tuple[CoilMap, bool]:
        """The running coil, and whether all that is written is in it.  may_go_on: False: the rest is for the next call.

        A node that has no record has an empty map.
        """
        newest = coil_record.current(self.folder)
        if self._tail is not None and newest != self._tail.path:
            self._follow(self._tail, may_go_on)
            self._tail = None
        if self._tail is None and newest is not None:
            self._tail = Tail(newest)
        return self._running, self._tail is None or self._follow(self._tail, may_go_on)

    def of_record(self, path: Path) -> CoilMap:
        """The map of any record.  Raises OSError."""
        size = path.stat().st_size
        if self._other is None or self._other[:2] != (path, size):
            found = CoilMap()
            for item in coil_record.items(path):
                found.take(item)
            self._other = path, size, found
        return self._other[2]

    def _follow(self, tail: Tail, may_go_on: Callable[[], bool]) -> bool:
        try:
            while found := tail.read(BLOCK_BYTES):
                for item in found:
                    self._running.take(item)
                if not may_go_on():
                    return False
        except OSError:
            pass  # it was packed since: the packed record has its last seconds
        return True


def runs_json(runs: Sequence[Run]) -> list[list[Any]]:
    """[from_m, to_m, kind, cause] of each."""
    return [[round(run.from_m, 3), round(run.to_m, 3), run.kind, run.cause] for run in runs]


def _runs_json(runs: Sequence[Run], from_m: float, to_m: float) -> list[list[Any]]:
    reach = max(run.to_m for run in runs)
    first = min(run.from_m for run in runs)
    inside = complement(
        (run for run in runs if run.to_m > from_m and run.from_m < to_m), max(from_m, first), min(to_m, reach)
    )
    return runs_json(coarsened(inside, SHOWN_RUNS))


def _widths_json(found: Sequence[Width], from_m: float, to_m: float) -> list[list[float]]:
    inside = [each for each in found if each.at_m is not None and from_m <= each.at_m <= to_m]
    thin = thinned(inside, SHOWN_WIDTHS)
    return [[each.at_m or 0.0, each.median_mm, each.least_mm, each.most_mm] for each in thin]


def thinned(found: Sequence[Width], wanted: int) -> list[Width]:
    """At most so many samples; neighbours become one, which keeps the least and the most."""
    size = -(-len(found) // wanted) if found else 1
    groups = [found[at : at + size] for at in range(0, len(found), size)]
    return [
        Width(
            group[0].camera,
            group[0].at_m,
            sorted(each.median_mm for each in group)[len(group) // 2],
            min(each.least_mm for each in group),
            max(each.most_mm for each in group),
        )
        for group in groups
    ]


def _overlaps(defect: Defect, from_m: float, to_m: float) -> bool:
    return (defect.from_m or 0.0) <= to_m and _end_m(defect) >= from_m


def _doubled(bins: Counter[tuple[int, str | None, str]]) -> dict[tuple[int, str | None, str], int]:
    doubled: Counter[tuple[int, str | None, str]] = Counter()
    for (place, surface, severity), number in bins.items():
        doubled[place // 2, surface, severity] += number
    return doubled
