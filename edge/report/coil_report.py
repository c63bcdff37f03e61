"""What the report of a coil says, as values: every file is made of it, and adds nothing."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

SCHEMA: Final = "defectd.coil-report/1"
DENSITY_M: Final = 10.0
From = Literal["head", "tail"]


@dataclass(frozen=True, slots=True)
class Lane:
    """One surface on the map; cameras that state none have a lane each.  has_sides: places across are known."""

    name: str
    cameras: tuple[str, ...]
    has_sides: bool


@dataclass(frozen=True, slots=True)
class ReportedDefect:
    """One defect, those of overlapping cameras as one.  m: along the coil.  None: unknown."""

    seq: int
    lane: str
    surface: str | None
    class_name: str
    severity: str
    confidence: float
    from_m: float | None
    to_m: float | None
    across_mm: tuple[float, float] | None
    length_mm: float | None
    evidence: str | None
    is_open: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "seq": self.seq,
            "surface": self.surface,
            "class": self.class_name,
            "severity": self.severity,
            "confidence": round(self.confidence, 4),
            "from_m": _rounded(self.from_m, 3),
            "to_m": _rounded(self.to_m, 3),
            "across_mm": None if self.across_mm is None else [round(mm, 1) for mm in self.across_mm],
            "length_mm": _rounded(self.length_mm, 1),
            "evidence": self.evidence,
            "is_open": self.is_open,
        }


@dataclass(frozen=True, slots=True)
class WorstDefect:
    """One of the worst defects with its picture.  jpeg: None: there is no picture, and `why` says so in words."""

    defect: ReportedDefect
    jpeg: bytes | None
    why: str | None

    def as_json(self) -> dict[str, Any]:
        picture = None if self.jpeg is None else base64.b64encode(self.jpeg).decode()
        return {**self.defect.as_json(), "picture": picture, "no_picture": self.why}


@dataclass(frozen=True, slots=True)
class MapMark:
    """One defect on the map.  across_mm: its middle; None: unknown."""

    lane: str
    m: float
    across_mm: float | None
    class_name: str
    severity: str


@dataclass(frozen=True, slots=True)
class MapCell:
    """The defects in one part of a lane, where they are too many to be shown one by one.  severity: the worst."""

    lane: str
    from_m: float
    to_m: float
    across_mm: tuple[float, float] | None
    defects: int
    severity: str


@dataclass(frozen=True, slots=True)
class DefectMap:
    """Either marks or cells.  reach_m: where the map ends.  width_mm: of the strip on it."""

    reach_m: float
    width_mm: float
    marks: tuple[MapMark, ...] | None
    cells: tuple[MapCell, ...] | None


@dataclass(frozen=True, slots=True)
class Density:
    """Defects that start within so many meters, by severity."""

    from_m: float
    to_m: float
    minor: int
    major: int
    critical: int

    @property
    def defects(self) -> int:
        return self.minor + self.major + self.critical


@dataclass(frozen=True, slots=True)
class Coverage:
    """Meters of the coil that passed one camera."""

    camera: str
    lane: str
    whole_m: float
    partial_m: float
    missed_m: float
    unknown_m: float


@dataclass(frozen=True, slots=True)
class Gap:
    """Meters that one camera did not inspect as a whole."""

    camera: str
    lane: str
    from_m: float
    to_m: float
    kind: str
    cause: str | None


@dataclass(frozen=True, slots=True)
class ClassRow:
    """The defects of one class."""

    class_name: str
    by_lane: Mapping[str, int]
    defects: int
    per_100m: float | None
    longest_mm: float | None


@dataclass(frozen=True, slots=True)
class WidthCurve:
    """The width along the coil, mm.  curve: (m, median, least, most), thinned.  out: meters beyond the tolerance."""

    camera: str
    least: float
    most: float
    mean: float
    nominal_mm: float | None
    tolerance_mm: float | None
    curve: tuple[tuple[float, float, float, float], ...]
    out: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class TrialNote:
    """What changed or went wrong while the coil ran: model, configuration, camera, picture."""

    time: str
    text: str


@dataclass(frozen=True, slots=True)
class CoilReport:
    """The report of one coil.  is_so_far: the coil runs.  counted_from: where 0 m lies.

    grade, release, roll_marks, streaks: JSON values, as `coverage.coil_judgement` has them; roll_marks with their lane.
    """

    id: str
    coil: str | None
    node: str
    counted_from: From
    is_so_far: bool
    started: str
    ended: str | None
    ended_by: str | None
    length_m: float | None
    severities: Mapping[str, int]
    reports: int
    """Defects as the cameras reported them, before those of overlapping cameras became one."""
    unplaced: int
    lanes: tuple[Lane, ...]
    grade: Mapping[str, Any] | None
    release: Mapping[str, Any] | None
    roll_marks: tuple[Mapping[str, Any], ...]
    streaks: tuple[Mapping[str, Any], ...]
    map: DefectMap
    density: tuple[Density, ...]
    coverage: tuple[Coverage, ...]
    holes: Mapping[str, tuple[tuple[float, float, str], ...]]
    """By lane: what its cameras did not inspect as a whole, for the map: (from, to, worst kind)."""
    gaps: tuple[Gap, ...]
    gaps_left_out: int
    gaps_left_out_m: float
    classes: tuple[ClassRow, ...]
    width: WidthCurve | None
    worst: tuple[WorstDefect, ...]
    notes: tuple[TrialNote, ...]
    notes_left_out: int
    model: Mapping[str, str]
    config_sha256: str
    seq: Mapping[str, Any]
    losses: tuple[str, ...]
    is_complete: bool
    speed_m_per_s: tuple[float, float] | None
    """Least and most."""

    @property
    def defects(self) -> int:
        return sum(self.severities.values())

    @property
    def missed_share(self) -> float | None:
        """Share of the meters that were not inspected, of all cameras."""
        total = sum(row.whole_m + row.partial_m + row.missed_m + row.unknown_m for row in self.coverage)
        return sum(row.missed_m + row.unknown_m for row in self.coverage) / total if total else None

    def summary_json(self) -> dict[str, Any]:
        """The few values that are published, listed and compared."""
        width = self.width
        sizes = None if width is None else {"least": width.least, "mean": round(width.mean, 2), "most": width.most}
        return {
            "id": self.id,
            "coil": self.coil,
            "node": self.node,
            "so_far": self.is_so_far,
            "started": self.started,
            "ended": self.ended,
            "length_m": _rounded(self.length_m, 3),
            "defects": dict(self.severities),
            "missed_share": _rounded(self.missed_share, 6),
            "roll_marks": len(self.roll_marks),
            "width_mm": sizes,
            "is_complete": self.is_complete,
            "grade": None if self.grade is None else self.grade["grade"],
            "reasons": [] if self.grade is None else list(self.grade["reasons"]),
            "released": None if self.release is None else dict(self.release),
        }

    def as_json(self) -> dict[str, Any]:
        """`edge/schema/coil-report-1.json`."""
        width, chart = self.width, self.map
        return {
            "schema": SCHEMA,
            **self.summary_json(),
            "from": self.counted_from,
            "ended_by": self.ended_by,
            "reports": self.reports,
            "unplaced": self.unplaced,
            "judgement": None if self.grade is None else dict(self.grade),
            "surfaces": [
                {"name": lane.name, "cameras": list(lane.cameras), "has_sides": lane.has_sides} for lane in self.lanes
            ],
            "marks_of_rolls": [dict(mark) for mark in self.roll_marks],
            "streaks": [dict(streak) for streak in self.streaks],
            "map": {
                "reach_m": round(chart.reach_m, 3),
                "width_mm": round(chart.width_mm, 1),
                "marks": None if chart.marks is None else [_mark_json(mark) for mark in chart.marks],
                "cells": None if chart.cells is None else [_cell_json(cell) for cell in chart.cells],
                "holes": {
                    lane: [[round(a, 3), round(b, 3), kind] for a, b, kind in holes]
                    for lane, holes in self.holes.items()
                },
            },
            "density": [
                {
                    "from_m": one.from_m,
                    "to_m": one.to_m,
                    "minor": one.minor,
                    "major": one.major,
                    "critical": one.critical,
                }
                for one in self.density
            ],
            "coverage": [
                {
                    "camera": row.camera,
                    "surface": row.lane,
                    "whole_m": round(row.whole_m, 3),
                    "partial_m": round(row.partial_m, 3),
                    "missed_m": round(row.missed_m, 3),
                    "unknown_m": round(row.unknown_m, 3),
                }
                for row in self.coverage
            ],
            "gaps": [
                {
                    "camera": gap.camera,
                    "surface": gap.lane,
                    "from_m": round(gap.from_m, 3),
                    "to_m": round(gap.to_m, 3),
                    "kind": gap.kind,
                    "cause": gap.cause,
                }
                for gap in self.gaps
            ],
            "gaps_left_out": {"count": self.gaps_left_out, "m": round(self.gaps_left_out_m, 3)},
            "classes": [
                {
                    "class": row.class_name,
                    "surfaces": dict(row.by_lane),
                    "defects": row.defects,
                    "per_100m": _rounded(row.per_100m, 3),
                    "longest_mm": _rounded(row.longest_mm, 1),
                }
                for row in self.classes
            ],
            "width": None if width is None else _width_json(width),
            "worst": [one.as_json() for one in self.worst],
            "notes": [{"time": note.time, "text": note.text} for note in self.notes],
            "notes_left_out": self.notes_left_out,
            "model": dict(self.model),
            "config_sha256": self.config_sha256,
            "seq": dict(self.seq),
            "losses": list(self.losses),
            "speed_m_per_s": None if self.speed_m_per_s is None else list(self.speed_m_per_s),
        }


def _mark_json(mark: MapMark) -> list[Any]:
    return [mark.lane, round(mark.m, 3), _rounded(mark.across_mm, 1), mark.class_name, mark.severity]


def _cell_json(cell: MapCell) -> list[Any]:
    across = None if cell.across_mm is None else [round(mm, 1) for mm in cell.across_mm]
    return [cell.lane, round(cell.from_m, 3), round(cell.to_m, 3), across, cell.defects, cell.severity]


def _width_json(width: WidthCurve) -> dict[str, Any]:
    return {
        "camera": width.camera,
        "least_mm": round(width.least, 2),
        "most_mm": round(width.most, 2),
        "mean_mm": round(width.mean, 2),
        "nominal_mm": width.nominal_mm,
        "tolerance_mm": width.tolerance_mm,
        "curve": [
            [round(m, 1), round(median, 2), round(least, 2), round(most, 2)] for m, median, least, most in width.curve
        ],
        "out": [[round(a, 1), round(b, 1)] for a, b in width.out],
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
