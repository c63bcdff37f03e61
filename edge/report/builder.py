"""Makes the report of a coil from what its record has, and what the judge found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from heapq import nsmallest
from typing import Final

from edge.coverage.coil_judgement import CoilJudgement
from edge.coverage.coil_lines import Width
from edge.coverage.coil_map import SEVERITIES, thinned
from edge.coverage.runs import WORSE, Run
from edge.errors import EvidenceError
from edge.report import words
from edge.report.coil_report import (
    DENSITY_M,
    ClassRow,
    CoilReport,
    Coverage,
    DefectMap,
    Density,
    From,
    Gap,
    Lane,
    MapCell,
    MapMark,
    ReportedDefect,
    WidthCurve,
    WorstDefect,
)
from edge.report.coil_view import CoilView
from edge.report.record_content import RecordContent

MAX_MARKS: Final = 1500
"""Defects that the map shows one by one; more become cells."""
CELLS_ALONG: Final = 240
CELLS_ACROSS: Final = 14
MAX_DENSITY: Final = 2000
MAX_GAPS: Final = 200
MAX_HOLES: Final = 2000
MAX_WIDTHS: Final = 400
MAX_OUT: Final = 100
MAX_ROLL_MARKS: Final = 50
WORST: Final = 10
USUAL_WIDTH_MM: Final = 1000.0
"""Of the map, where nothing is known across the strip."""

Picture = Callable[[str], bytes]
"""The JPEG of a path of evidence.  Raises EvidenceError."""


def report_of(
    content: RecordContent, judgement: CoilJudgement | None, picture: Picture, counted_from: From = "head"
) -> CoilReport:
    """The report of one coil.  Raises ValueError for a record without a header, or without the tail to count from."""
    view = CoilView(content, counted_from)
    summary, header, lanes = view.summary, content.header, view.lanes()
    assert header is not None
    runs = view.runs()
    reach_m = summary.length_m or max((found[-1].to_m for found in runs.values() if found), default=0.0)
    width = _width_curve(view)
    tally = _Tally(reach_m, summary.length_m)
    tally.take(view.defects())
    judged = view.judgement(None if judgement is None else judgement.grade)
    marks = () if judgement is None else judgement.roll_marks[:MAX_ROLL_MARKS]
    gaps, left_out = _gaps(view, runs)
    return CoilReport(
        id=summary.id,
        coil=summary.coil,
        node=summary.node,
        counted_from=counted_from,
        is_so_far=summary.ended is None,
        started=summary.started,
        ended=summary.ended,
        ended_by=None if content.ended is None else content.ended.by,
        length_m=summary.length_m,
        severities={name: tally.severities[name] for name in SEVERITIES},
        reports=len(content.defects),
        unplaced=tally.unplaced,
        lanes=lanes,
        grade=None if judged is None else {**judged, "reasons": words.reasons(judged)},
        release=None if judgement is None else judgement.release,
        roll_marks=tuple(view.stretched(mark) for mark in marks),
        streaks=() if judgement is None else tuple(view.stretched(streak) for streak in judgement.streaks),
        map=tally.map(width, content),
        density=tally.density(),
        coverage=_coverage(view, runs),
        holes=_holes(lanes, runs),
        gaps=gaps,
        gaps_left_out=len(left_out),
        gaps_left_out_m=sum(gap.to_m - gap.from_m for gap in left_out),
        classes=tally.classes(lanes),
        width=width,
        worst=tuple(_worst(defect, picture) for defect in tally.worst),
        notes=tuple(content.notes),
        notes_left_out=content.notes_left_out,
        model=content.model,
        config_sha256=content.config_sha256,
        seq={
            "first": summary.seq.first,
            "last": summary.seq.last,
            "seen": summary.seq.seen,
            "missing": [list(each) for each in summary.seq.missing],
            "lost": summary.seq.lost,
            "is_complete": summary.seq.is_complete,
        },
        losses=summary.losses,
        is_complete=summary.is_complete,
        speed_m_per_s=content.speeds,
    )


# ---- defects -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Cell:
    defects: int = 0
    severity: int = 0


@dataclass(slots=True)
class _Tally:
    """Counts all defects in one pass."""

    reach_m: float
    length_m: float | None
    severities: Counter[str] = field(default_factory=Counter)
    unplaced: int = 0
    worst: list[ReportedDefect] = field(default_factory=list)
    _marks: list[MapMark] | None = field(default_factory=list)
    _cells: dict[tuple[str, int, int], _Cell] = field(default_factory=dict)
    _bins: dict[int, list[int]] = field(default_factory=dict)
    _counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    _longest: dict[str, float] = field(default_factory=dict)
    _across_mm: float = 0.0

    def take(self, defects: Iterable[ReportedDefect]) -> None:
        block: list[ReportedDefect] = []
        for defect in defects:
            self._count(defect)
            block.append(defect)
            if len(block) == 1000:
                self.worst, block = nsmallest(WORST, [*self.worst, *block], key=_badness), []
        self.worst = nsmallest(WORST, [*self.worst, *block], key=_badness)

    def _count(self, defect: ReportedDefect) -> None:
        rank = _rank(defect.severity)
        self.severities[SEVERITIES[rank]] += 1
        self._counts[defect.class_name, defect.lane] += 1
        if defect.length_mm is not None:
            self._longest[defect.class_name] = max(self._longest.get(defect.class_name, 0.0), defect.length_mm)
        if defect.across_mm is not None:
            self._across_mm = max(self._across_mm, defect.across_mm[1])
        if defect.from_m is None:
            self.unplaced += 1
            return
        self._bins.setdefault(int(max(0.0, defect.from_m) // DENSITY_M), [0, 0, 0])[rank] += 1
        middle = None if defect.across_mm is None else sum(defect.across_mm) / 2
        along = min(CELLS_ALONG - 1, int(defect.from_m / self.reach_m * CELLS_ALONG)) if self.reach_m > 0 else 0
        across = -1 if middle is None else int(max(0.0, middle) // _CELL_MM)
        cell = self._cells.setdefault((defect.lane, max(0, along), across), _Cell())
        cell.defects += 1
        cell.severity = max(cell.severity, rank)
        if self._marks is not None:
            self._marks.append(MapMark(defect.lane, defect.from_m, middle, defect.class_name, SEVERITIES[rank]))
            if len(self._marks) > MAX_MARKS:
                self._marks = None

    def map(self, width: WidthCurve | None, content: RecordContent) -> DefectMap:
        nominal = [view.nominal_mm for view in content.cameras.values() if view.nominal_mm is not None]
        known_mm = max([*nominal, *([] if width is None else [width.mean])], default=0.0)
        width_mm = max(known_mm, self._across_mm) or USUAL_WIDTH_MM
        if self._marks is not None:
            return DefectMap(self.reach_m, width_mm, tuple(self._marks), None)
        joined: dict[tuple[str, int, int], _Cell] = {}
        for (lane, along, across), cell in self._cells.items():
            row = -1 if across < 0 else min(CELLS_ACROSS - 1, int(across * _CELL_MM / width_mm * CELLS_ACROSS))
            both = joined.setdefault((lane, along, row), _Cell())
            both.defects += cell.defects
            both.severity = max(both.severity, cell.severity)
        step_m, step_mm = self.reach_m / CELLS_ALONG, width_mm / CELLS_ACROSS
        cells = (
            MapCell(
                lane,
                along * step_m,
                (along + 1) * step_m,
                None if row < 0 else (row * step_mm, (row + 1) * step_mm),
                cell.defects,
                SEVERITIES[cell.severity],
            )
            for (lane, along, row), cell in sorted(joined.items())
        )
        return DefectMap(self.reach_m, width_mm, None, tuple(cells))

    def density(self) -> tuple[Density, ...]:
        """Bins of 10 m; of a strip that is too long for that, longer ones."""
        last = max(self._bins, default=-1)
        joined = 1
        while (last + 1) / joined > MAX_DENSITY:
            joined *= 2
        found: dict[int, list[int]] = {}
        for place, counts in self._bins.items():
            both = found.setdefault(place // joined, [0, 0, 0])
            both[:] = [a + b for a, b in zip(both, counts, strict=True)]
        size_m = DENSITY_M * joined
        return tuple(Density(place * size_m, (place + 1) * size_m, *found[place]) for place in sorted(found))

    def classes(self, lanes: tuple[Lane, ...]) -> tuple[ClassRow, ...]:
        """The most frequent first."""
        sums: Counter[str] = Counter()
        for (name, _), count in self._counts.items():
            sums[name] += count
        names = [lane.name for lane in lanes]
        names += sorted({lane for _, lane in self._counts} - set(names))
        return tuple(
            ClassRow(
                name,
                {lane: self._counts[name, lane] for lane in names},
                count,
                count / self.length_m * 100 if self.length_m else None,
                self._longest.get(name),
            )
            for name, count in sorted(sums.items(), key=lambda each: (-each[1], each[0]))
        )


_CELL_MM: Final = 20.0
"""Cells across while the width is not known yet."""


def _rank(severity: str) -> int:
    """An unknown severity counts as the worst."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES) - 1


def _badness(defect: ReportedDefect) -> tuple[int, float, float, int]:
    return -_rank(defect.severity), -(defect.length_mm or 0.0), -defect.confidence, defect.seq


def _worst(defect: ReportedDefect, picture: Picture) -> WorstDefect:
    if defect.evidence is None:
        return WorstDefect(defect, None, "no picture was kept")
    try:
        return WorstDefect(defect, picture(defect.evidence), None)
    except EvidenceError as error:
        why = "the picture was deleted" if error.cause == "gone" else str(error)
        return WorstDefect(defect, None, why)


# ---- coverage, width -----------------------------------------------------------------------------------


def _coverage(view: CoilView, runs: Mapping[str, list[Run]]) -> tuple[Coverage, ...]:
    rows = []
    for camera, found in runs.items():
        sums: dict[str, float] = dict.fromkeys(WORSE, 0.0)
        for run in found:
            sums[run.kind] += run.length_m
        rows.append(Coverage(camera, view.lane(camera), *(sums[kind] for kind in WORSE)))
    return tuple(rows)


def _gaps(view: CoilView, runs: Mapping[str, list[Run]]) -> tuple[tuple[Gap, ...], list[Gap]]:
    """What was not inspected as a whole: the worst and longest, in the order of their places; and the others."""
    found = [
        Gap(camera, view.lane(camera), run.from_m, run.to_m, run.kind, run.cause)
        for camera, of_camera in runs.items()
        for run in of_camera
        if run.kind != "whole"
    ]
    found.sort(key=lambda gap: (gap.kind == "partial", gap.from_m - gap.to_m, gap.camera))
    shown = sorted(found[:MAX_GAPS], key=lambda gap: (gap.from_m, gap.camera))
    return tuple(shown), found[MAX_GAPS:]


def _holes(lanes: tuple[Lane, ...], runs: Mapping[str, list[Run]]) -> dict[str, tuple[tuple[float, float, str], ...]]:
    """By lane, where a camera of it did not inspect all; partial ones first, so that the worse are drawn over them."""
    found = {}
    for lane in lanes:
        holes = [
            (run.from_m, run.to_m, str(run.kind))
            for camera in lane.cameras
            for run in runs.get(camera, ())
            if run.kind != "whole"
        ]
        holes.sort(key=lambda hole: (hole[0] - hole[1], hole[0]))
        shown = sorted(holes[:MAX_HOLES], key=lambda hole: (WORSE.index(hole[2]), hole[0]))
        found[lane.name] = tuple(shown)
    return found


def _width_curve(view: CoilView) -> WidthCurve | None:
    """Of the camera with the most samples."""
    widths: Mapping[str, list[Width]] = view.content.widths
    if not widths:
        return None
    camera, samples = max(sorted(widths.items()), key=lambda each: len(each[1]))
    medians = [one.median_mm for one in samples]
    known = view.content.cameras.get(camera)
    nominal, tolerance = (None, None) if known is None else (known.nominal_mm, known.tolerance_mm)
    placed = [one for one in samples if one.at_m is not None]
    out: list[tuple[float, float]] = []
    if nominal is not None and tolerance is not None:
        out = _out(_along(view, placed), nominal, tolerance)
    return WidthCurve(
        camera,
        min(medians),
        max(medians),
        sum(medians) / len(medians),
        nominal,
        tolerance,
        tuple(_along(view, thinned(placed, MAX_WIDTHS))),
        tuple(out[:MAX_OUT]),
    )


def _along(view: CoilView, samples: list[Width]) -> list[tuple[float, float, float, float]]:
    return sorted(
        (view.place(one.at_m), one.median_mm, one.least_mm, one.most_mm) for one in samples if one.at_m is not None
    )


def _out(curve: list[tuple[float, float, float, float]], nominal: float, tolerance: float) -> list[tuple[float, float]]:
    """Where the median is beyond the tolerance, from the first such sample to the last in a row."""
    found: list[tuple[float, float]] = []
    was_out = False
    for m, median, _, _ in curve:
        is_out = abs(median - nominal) > tolerance
        if is_out and was_out:
            found[-1] = found[-1][0], m
        elif is_out:
            found.append((m, m))
        was_out = is_out
    return found
