"""How coils develop: defects a kilometre by class, gaps, grades, width and roll marks, from coil to coil.

Plain Python for the page process: it reads the index of coils, their judgements and the summaries of their reports.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

from edge.coverage import coil_judgement, coil_record
from edge.coverage.coil_record import CoilSummary
from edge.report.shelf import ReportShelf

SCHEMA: Final = "defectd.coil-trend/1"
MAX_COILS: Final = 1000
MIN_COILS: Final = 8
"""Fewer say nothing of a direction."""
MAX_COMPARED: Final = 300
"""Newest coils that are compared with each other: each with each."""
SURE: Final = 0.01
"""A direction is stated where chance alone shows one in fewer than one of a hundred series."""

Direction = Literal["rising", "falling", "steady", "unknown"]


@dataclass(frozen=True, slots=True)
class TrendCoil:
    """One coil that has ended.  None: unknown."""

    id: str
    coil: str | None
    started: str
    length_m: float | None
    defects: int
    severities: dict[str, int]
    per_km: dict[str, float] | None
    """Defects a kilometre, by class; None: the length is unknown."""
    missed_share: float | None
    grade: str | None
    is_best: bool
    """Whether that is the best grade of its product."""
    released: str | None
    roll_marks: int | None
    periods_m: tuple[float, ...]
    width_mm: tuple[float, float, float] | None
    """Least, mean, most."""

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "coil": self.coil,
            "started": self.started,
            "length_m": self.length_m,
            "defects": self.defects,
            "severities": self.severities,
            "per_km": None if self.per_km is None else {name: round(n, 3) for name, n in self.per_km.items()},
            "missed_share": None if self.missed_share is None else round(self.missed_share, 6),
            "grade": self.grade,
            "is_best": self.is_best,
            "released": self.released,
            "roll_marks": self.roll_marks,
            "periods_m": list(self.periods_m),
            "width_mm": None if self.width_mm is None else list(self.width_mm),
        }


@dataclass(frozen=True, slots=True)
class Series:
    """One figure over the coils.  older, newer: its median over each half.  p: of so clear a direction by chance."""

    name: str
    older: float | None
    newer: float | None
    direction: Direction
    p: float | None
    coils: int

    def as_json(self) -> dict[str, Any]:
        older, newer = (None if one is None else round(one, 6) for one in (self.older, self.newer))
        return {
            "name": self.name,
            "older": older,
            "newer": newer,
            "direction": self.direction,
            "p": self.p,
            "coils": self.coils,
        }


@dataclass(frozen=True, slots=True)
class CoilTrend:
    """The last coils, the oldest first; and what becomes more or less."""

    coils: tuple[TrendCoil, ...]
    classes: tuple[Series, ...]
    """Defects a kilometre of each class."""
    others: tuple[Series, ...]
    """`defects` (a kilometre), `missed_share`, `roll_marks`."""
    grades: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "coils": [one.as_json() for one in self.coils],
            "classes": [one.as_json() for one in self.classes],
            "others": [one.as_json() for one in self.others],
            "grades": self.grades,
        }


def trend_of(folder: Path, reports: Path, last: int) -> CoilTrend:
    """The trend over the last coils that have ended.  reports: the folder of report files."""
    ended = [one for one in coil_record.indexed(folder) if one.coil is not None and one.ended is not None]
    newest = sorted(ended, key=lambda one: one.id)[-min(last, MAX_COILS) :]
    shelf = ReportShelf(reports)
    coils = tuple(_coil(folder, shelf, one) for one in newest)
    names = Counter[str]()
    for one in newest:
        names.update(one.classes)
    classes = [
        _series(name, [None if one.per_km is None else one.per_km.get(name, 0.0) for one in coils])
        for name, _ in sorted(names.items(), key=lambda each: (-each[1], each[0]))
    ]
    others = (
        _series("defects", [None if one.per_km is None else sum(one.per_km.values()) for one in coils]),
        _series("missed_share", [one.missed_share for one in coils]),
        _series("roll_marks", [None if one.roll_marks is None else float(one.roll_marks) for one in coils]),
    )
    grades = Counter(one.grade for one in coils if one.grade is not None)
    return CoilTrend(coils, tuple(classes), others, dict(sorted(grades.items())))


def _coil(folder: Path, shelf: ReportShelf, coil: CoilSummary) -> TrendCoil:
    judgement = coil_judgement.load(folder, coil.id)
    summary = shelf.summary(coil.id)
    km = None if not coil.length_m else coil.length_m / 1000
    meters = list(coil.meters.values())
    total = sum(one.whole + one.partial + one.missed + one.unknown for one in meters)
    grade = None if judgement is None or judgement.grade is None else str(judgement.grade["grade"])
    release = None if judgement is None or judgement.release is None else str(judgement.release["grade"])
    width = None if summary is None else summary.get("width_mm")
    marks = () if judgement is None else judgement.roll_marks
    return TrendCoil(
        coil.id,
        coil.coil,
        coil.started,
        coil.length_m,
        coil.defects,
        dict(coil.severities),
        None if km is None else {name: n / km for name, n in coil.classes.items()},
        sum(one.missed + one.unknown for one in meters) / total if total else None,
        grade,
        judgement is not None and judgement.is_best,
        release,
        None if judgement is None else len(marks),
        tuple(float(mark["period_m"]) for mark in marks[:10]),
        None if width is None else (width["least"], width["mean"], width["most"]),
    )


def _series(name: str, values: Sequence[float | None]) -> Series:
    known = [value for value in values if value is not None][-MAX_COMPARED:]
    if len(known) < MIN_COILS:
        return Series(name, None, None, "unknown", None, len(known))
    half = len(known) // 2
    older, newer = median(known[:half]), median(known[-half:])
    z = kendall_z(known)
    p = math.erfc(abs(z) / math.sqrt(2))
    direction: Direction = "steady" if p >= SURE else "rising" if z > 0 else "falling"
    return Series(name, older, newer, direction, float(f"{p:.3g}"), len(known))


def kendall_z(values: Sequence[float]) -> float:
    """How clearly the values rise or fall, in standard deviations (Mann and Kendall): it asks for no distribution."""
    n = len(values)
    score = sum((b > a) - (b < a) for a, b in combinations(values, 2))
    ties = [len(list(group)) for _, group in groupby(sorted(values))]
    variance = (n * (n - 1) * (2 * n + 5) - sum(t * (t - 1) * (2 * t + 5) for t in ties)) / 18
    if variance <= 0 or score == 0:
        return 0.0
    return (score - math.copysign(1, score)) / math.sqrt(variance)
