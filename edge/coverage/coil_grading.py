"""From the record of a coil to its roll marks and its grade, for a coil that runs and for one that has ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from edge.coverage import coil_lines, grading, rolls
from edge.coverage.coil_map import MergedDefect, merged
from edge.coverage.coil_record import Totals
from edge.coverage.defect_bands import Breathe, PlacedDefect, Streak
from edge.coverage.roll_marks import Found, RollMark, find_marks
from edge.coverage.rolls import Roll
from edge.coverage.severity import SEVERITIES


@dataclass(frozen=True, slots=True)
class MarkOnSide:
    """A roll mark on one surface, and the rolls that can have left it.  surface: None: not stated."""

    surface: str | None
    mark: RollMark
    rolls: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        mark = self.mark
        return {
            "period_m": round(mark.period_m, 4),
            "period_error_m": round(mark.period_error_m, 4),
            "across_mm": round(mark.across_mm, 1),
            "surface": self.surface,
            "from_m": round(mark.from_m, 3),
            "to_m": round(mark.to_m, 3),
            "members": list(mark.members),
            "seen": mark.seen,
            "places": mark.places,
            "uninspected": mark.uninspected,
            "log10_chance": round(mark.log10_chance, 2),
            "class": mark.class_name,
            "rolls": list(self.rolls),
        }


@dataclass(frozen=True, slots=True)
class StreakOnSide:
    """A band too full of defects to be searched."""

    surface: str | None
    streak: Streak

    def as_json(self) -> dict[str, Any]:
        return {"surface": self.surface, **{key: round(value, 3) for key, value in asdict(self.streak).items()}}


class CoilFactsBuilder:
    """Gathers what a grade depends on from the lines of a record, one by one.  Memory: some 300 bytes a defect."""

    def __init__(self) -> None:
        self._totals = Totals()
        self._defects: dict[str, coil_lines.Defect] = {}
        self._runs: dict[str, list[grading.CoilRun]] = {}
        self._widths: list[grading.CoilWidth] = []
        self._cameras: dict[str, str | None] = {}
        """The surface of each camera that saw the coil; a reload may have added some."""

    @property
    def header(self) -> coil_lines.Header | None:
        return self._totals.header

    def add(self, item: coil_lines.Item) -> None:
        """Take in one line; lines before the header are ignored."""
        if self._totals.header is None and not isinstance(item, coil_lines.Header):
            return
        self._totals.add(item)
        match item:
            case coil_lines.Header(cameras=cameras) | coil_lines.Resumed(cameras=cameras):
                self._cameras.update((camera.name, camera.surface) for camera in cameras)
            case coil_lines.Defect() if self.header is not None and item.coil == self.header.coil:
                self._defects[item.track_id] = replace(item, time="", evidence=None)  # no fact needs them: a third less
            case coil_lines.Runs(camera, runs):
                known = self._runs.setdefault(camera, [])
                for run in runs:
                    last = known[-1] if known else None
                    if last is not None and last.kind == run.kind and abs(last.to_m - run.from_m) < 1e-3:
                        known[-1] = grading.CoilRun(camera, last.from_m, run.to_m, run.kind)
                    else:
                        known.append(grading.CoilRun(camera, run.from_m, run.to_m, run.kind))
            case coil_lines.Width():
                self._widths.append(grading.CoilWidth(item.at_m, item.least_mm, item.most_mm))
            case _:
                pass

    def unseen(self, surface: str | None) -> list[tuple[float, float]]:
        """The parts of the strip that a camera of this surface did not see.  None: cameras of no stated surface."""
        names = {name for name, side in self._cameras.items() if side == surface}
        return [
            (run.from_m, run.to_m)
            for camera, runs in self._runs.items()
            if camera in names
            for run in runs
            if run.kind in ("missed", "unknown")
        ]

    def _found(self, breathe: Breathe) -> list[MergedDefect]:
        """The defects of the coil, with those that two cameras saw as one."""
        sides = [side for side in self._cameras.values() if side is not None]
        if len(sides) > len(set(sides)):
            return merged(self._defects.values(), breathe)
        alone = (
            MergedDefect((one,), one.severity, one.from_m, one.to_m, one.across_mm) for one in self._defects.values()
        )
        return list(alone)

    def facts(self, marks: Sequence[MarkOnSide] | None, breathe: Breathe = lambda: None) -> grading.CoilFacts:
        """What is known now.  marks: None: nobody searched for them.  Raises ValueError before the header."""
        summary = self._totals.summary()
        has_ended = summary.ended is not None
        return grading.CoilFacts(
            summary.coil or "",
            summary.length_m,
            tuple(_as_fact(defect) for defect in self._found(breathe)),
            tuple(run for runs in self._runs.values() for run in runs),
            dict(self._cameras),
            None if marks is None else tuple(one.surface for one in marks),
            tuple(self._widths),
            summary.is_complete,
            has_ended,
        )

    def search(
        self, table: Iterable[Roll], excluded_m: Sequence[float] = (), breathe: Breathe = lambda: None
    ) -> tuple[tuple[MarkOnSide, ...], tuple[StreakOnSide, ...]]:
        """The roll marks of the whole coil, the most surprising first, and bands that were too full to be searched."""
        table, day = tuple(table), None if self.header is None else self.header.started[:10]
        by_side: dict[str | None, list[PlacedDefect]] = {}
        for defect in self._found(breathe):
            if defect.from_m is not None and defect.across_mm is not None:
                main = defect.main
                by_side.setdefault(main.surface, []).append(
                    placed(main.seq, defect.from_m, defect.across_mm, main.class_name)
                )
        marks: list[MarkOnSide] = []
        streaks: list[StreakOnSide] = []
        for surface in sorted(by_side, key=lambda side: side or ""):
            found: Found = find_marks(by_side[surface], self.unseen(surface), excluded_m, breathe=breathe)
            marks += (with_rolls(mark, surface, table, day) for mark in found.marks)
            streaks += (StreakOnSide(surface, streak) for streak in found.streaks)
        marks.sort(key=lambda one: one.mark.log10_chance)
        return tuple(marks), tuple(streaks)


def placed(seq: int, at_m: float, across_mm: tuple[float, float], class_name: str) -> PlacedDefect:
    """A defect as the search sees it: where it starts along the strip, and its middle across."""
    return PlacedDefect(seq, at_m, (across_mm[0] + across_mm[1]) / 2, class_name)


def with_rolls(mark: RollMark, surface: str | None, table: Iterable[Roll], day: str | None) -> MarkOnSide:
    """The mark with the rolls that fit it."""
    return MarkOnSide(surface, mark, rolls.fitting(table, mark.period_m, surface, day))


def grade_record(
    items: Iterable[coil_lines.Item], products: Iterable[Mapping[str, Any]], table: Iterable[Roll]
) -> tuple[grading.CoilGrade, tuple[MarkOnSide, ...], tuple[StreakOnSide, ...]]:
    """Search and grade a whole record.  Raises ValueError for one without a header."""
    builder = CoilFactsBuilder()
    for item in items:
        builder.add(item)
    marks, streaks = builder.search(table)
    return grading.grade_of(builder.facts(marks), products), marks, streaks


def _as_fact(found: MergedDefect) -> grading.CoilDefect:
    """What one camera does not know, is not known."""
    severity = next((each for each in SEVERITIES if each == found.severity), SEVERITIES[-1])
    lengths_mm = [None if one.is_open else one.length_mm for one in found.defects]
    known_mm = [length_mm for length_mm in lengths_mm if length_mm is not None]
    main = found.main
    return grading.CoilDefect(
        main.class_name,
        severity,
        found.from_m,
        max(known_mm) if len(known_mm) == len(lengths_mm) else None,
        main.surface,
        found.to_m if len(found.defects) > 1 else None,
        tuple(sorted({one.class_name for one in found.defects} - {main.class_name})),
    )
