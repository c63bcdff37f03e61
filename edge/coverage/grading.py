"""The grade of a coil: the first grade of its product whose rules all hold, with the reasons.

A rule holds, fails, or cannot be decided because something is not known: where a defect lies, how long it is, whether
all events are there. What is not known counts in both ways, so that a coil never gets a better grade for less
knowledge: a rule holds only if it holds in the worst case, and fails only if it fails in the best one. A coil that fits
no grade is `reject` where defects, roll marks or its width rule out each of them, and `not graded` where only a lack of
knowledge does. Pure Python without the configuration's models: a report grades a record in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from edge.coverage.severity import SEVERITIES, is_coil_of
from edge.event import DefectSeverity

REJECT: Final = "reject"
NOT_GRADED: Final = "not graded"
MAX_REASONS: Final = 12
"""Reasons in words; the rules have all of them."""


# ---- what is known of a coil ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CoilDefect:
    """A closed defect.  at_m: its end that passes first, from the start of the coil.  None: not known."""

    class_name: str
    severity: DefectSeverity
    at_m: float | None = None
    length_mm: float | None = None
    surface: str | None = None
    to_m: float | None = None
    """Its end that passes last, where another camera saw it farther than `length_mm`."""
    other_classes: tuple[str, ...] = ()
    """What other cameras took it for."""

    @property
    def end_m(self) -> float | None:
        """None: not known."""
        if self.at_m is None or self.length_mm is None:
            return None
        return max(self.at_m + self.length_mm / 1000, self.to_m or self.at_m)

    def is_of(self, classes: Sequence[str]) -> bool:
        return self.class_name in classes or any(name in classes for name in self.other_classes)


@dataclass(frozen=True, slots=True)
class CoilRun:
    """Meters of one camera: kind is whole, partial, missed or unknown.  What no run has counts as missed."""

    camera: str
    from_m: float
    to_m: float
    kind: str


@dataclass(frozen=True, slots=True)
class CoilWidth:
    """The least and the most width around one place.  at_m: None: not known."""

    at_m: float | None
    least_mm: float
    most_mm: float


@dataclass(frozen=True, slots=True)
class CoilFacts:
    """All that a grade depends on."""

    coil: str
    length_m: float | None
    """Length, or so far; None: not known for the whole coil."""
    defects: Sequence[CoilDefect] = ()
    runs: Sequence[CoilRun] = ()
    cameras: Mapping[str, str | None] = field(default_factory=dict)
    """The surface that each camera sees."""
    roll_marks: Sequence[str | None] | None = None
    """The surface of each mark; None: nobody searched for marks."""
    widths: Sequence[CoilWidth] = ()
    is_complete: bool = True
    """False: events are missing."""
    has_ended: bool = True
    """False: the coil still runs; its tail is not known."""


# ---- rules ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RuleResult:
    """One rule of one grade.  found: None: not known at all.  at_m: where that was found."""

    grade: str
    rule: str
    surface: str | None
    limit: float | tuple[float, float]
    found: float | None
    at_m: float | None
    holds: bool | None
    """None: cannot be decided."""
    why: str = ""
    """What is not known."""

    @property
    def is_about_knowledge(self) -> bool:
        """Whether a failure of the rule is a lack of knowledge, not of quality."""
        return self.rule in ("missed_share", "partial_share")

    def as_json(self) -> dict[str, Any]:
        return {
            "grade": self.grade,
            "rule": self.rule,
            "surface": self.surface,
            "limit": list(self.limit) if isinstance(self.limit, tuple) else self.limit,
            "found": None if self.found is None else round(self.found, 4),
            "at_m": None if self.at_m is None else round(self.at_m, 3),
            "holds": self.holds,
            "why": self.why or None,
        }

    def __str__(self) -> str:
        side = f" ({self.surface})" if self.surface else ""
        limit = f"{self.limit[0]:g} to {self.limit[1]:g}" if isinstance(self.limit, tuple) else f"{self.limit:g}"
        found = "is not known" if self.found is None else f"is {self.found:.4g}"
        place = "" if self.at_m is None or self.holds else f" at {self.at_m:.1f} m"
        why = f", {self.why}" if self.holds is None and self.why else ""
        return f"{self.grade}: {self.rule}{side} {found}{place}, limit {limit}{why}"


@dataclass(frozen=True, slots=True)
class CoilGrade:
    """The grade of a coil.  product: None: its name fits no product, so that it is not graded."""

    coil: str
    product: str | None
    grade: str
    reasons: tuple[str, ...]
    rules: tuple[RuleResult, ...] = ()
    is_so_far: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "coil": self.coil,
            "product": self.product,
            "grade": self.grade,
            "so_far": self.is_so_far,
            "reasons": list(self.reasons),
            "rules": [rule.as_json() for rule in self.rules],
        }


def product_of(products: Iterable[Mapping[str, Any]], coil: str | None) -> Mapping[str, Any] | None:
    """The first product whose coils have such names.  products: the section `grading` of the configuration, as JSON."""
    return next((one for one in products if is_coil_of(one["coils"], coil)), None)


def grade_of(facts: CoilFacts, products: Iterable[Mapping[str, Any]]) -> CoilGrade:
    """Grade a coil by the rules of its product."""
    product = product_of(products, facts.coil)
    if product is None or not product["grades"]:
        why = "no product has coils of this name" if product is None else "its product has no grades"
        name = None if product is None else product["product"]
        return CoilGrade(facts.coil, name, NOT_GRADED, (why,), is_so_far=not facts.has_ended)
    ledger = _Ledger.of(facts, product["ignore"])
    ungradable = _ungradable(ledger, product["max_missed_share"])
    rules: list[RuleResult] = []
    for row in product["grades"]:
        rules += _results(ledger, row)
    names = list(dict.fromkeys(row["grade"] for row in product["grades"]))
    by_grade = {name: [rule for rule in rules if rule.grade == name] for name in names}
    held = next((name for name in names if all(rule.holds for rule in by_grade[name])), None)
    is_ruled_out = all(
        any(rule.holds is False and not rule.is_about_knowledge for rule in of_grade) for of_grade in by_grade.values()
    )
    if is_ruled_out:
        grade = REJECT
    elif ungradable or held is None:
        grade = NOT_GRADED
    else:
        grade = held
    better = names[: names.index(grade)] if grade in names else names
    against = [str(rule) for name in better for rule in by_grade[name] if not rule.holds]
    reasons = [*(() if grade in names else ungradable), *against] or [f"all rules of {grade} hold"]
    return CoilGrade(
        facts.coil, product["product"], grade, tuple(reasons[:MAX_REASONS]), tuple(rules), not facts.has_ended
    )


def _ungradable(ledger: _Ledger, max_missed_share: float) -> list[str]:
    """Why the coil cannot have a grade, whatever the rules say."""
    facts, reasons = ledger.facts, []
    if facts.length_m is None:
        reasons.append("its length is not known: positions were lost")
    elif ledger.to_m is not None and ledger.to_m <= ledger.from_m:
        reasons.append(f"nothing of it counts: it is no longer than the ends that are ignored ({facts.length_m:.1f} m)")
    if not facts.is_complete:
        reasons.append("events of the coil are missing")
    unplaced = sum(defect.at_m is None for defect in facts.defects)
    if unplaced:
        reasons.append(f"the place of {unplaced} defects is not known")
    missed = ledger.share(None, ("whole", "partial"))
    if missed is not None and missed[0] > max_missed_share:
        reasons.append(f"{missed[0]:.2%} of it was not inspected, limit {max_missed_share:.2%}")
    return reasons


# ---- counting ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Ledger:
    """The facts without the ends of the coil that are ignored."""

    facts: CoilFacts
    from_m: float
    to_m: float | None
    """None: the length is not known."""
    defects: tuple[CoilDefect, ...]

    @classmethod
    def of(cls, facts: CoilFacts, ignore: Mapping[str, float]) -> Self:
        head_m, tail_m = ignore["head_m"], ignore["tail_m"] if facts.has_ended else 0.0
        to_m = None if facts.length_m is None else max(head_m, facts.length_m - tail_m)

        def counts(defect: CoilDefect) -> bool:
            if defect.at_m is None:
                return True
            is_in_head = defect.end_m is not None and defect.end_m <= head_m
            is_in_tail = to_m is not None and tail_m > 0 and defect.at_m >= to_m
            return not (is_in_head and head_m > 0) and not is_in_tail

        return cls(facts, head_m, to_m, tuple(sorted(filter(counts, facts.defects), key=_order)))

    def select(
        self, surface: str | None, severity: DefectSeverity = "minor", classes: Sequence[str] | None = None
    ) -> tuple[list[CoilDefect], list[CoilDefect]]:
        """The defects of this severity or worse: those certainly on this surface, and those that may be."""
        worst = SEVERITIES.index(severity)
        found = [
            defect
            for defect in self.defects
            if SEVERITIES.index(defect.severity) >= worst and (classes is None or defect.is_of(classes))
        ]
        if surface is None:
            return found, []
        return (
            [defect for defect in found if defect.surface == surface],
            [defect for defect in found if defect.surface is None],
        )

    def share(self, surface: str | None, seen: Sequence[str]) -> tuple[float, float | None] | None:
        """Share of the meters that one camera or more did not see in such runs, and the first one; None: not known.

        A surface that no camera sees was missed as a whole.
        """
        if self.to_m is None:
            return None
        cameras = [name for name, side in self.facts.cameras.items() if surface is None or side in (None, surface)]
        if surface is not None and not any(self.facts.cameras[name] == surface for name in cameras):
            return 1.0, self.from_m
        if not cameras or self.to_m <= self.from_m:
            return (1.0, self.from_m) if not cameras else (0.0, None)
        holes: list[tuple[float, float]] = []
        for name in cameras:
            at_m = self.from_m
            runs = (run for run in self.facts.runs if run.camera == name and run.kind in seen)
            for run in sorted(runs, key=lambda each: (each.from_m, each.to_m)):
                if run.from_m > at_m:
                    holes.append((at_m, min(run.from_m, self.to_m)))
                at_m = max(at_m, run.to_m)
                if at_m >= self.to_m:
                    break
            if at_m < self.to_m:
                holes.append((at_m, self.to_m))
        total, at_m = 0.0, self.from_m
        for from_m, to_m in sorted(holes):
            total += max(0.0, to_m - max(at_m, from_m))
            at_m = max(at_m, to_m)
        return total / (self.to_m - self.from_m), min(holes)[0] if holes else None


def _order(defect: CoilDefect) -> tuple[object, ...]:
    """Places first: the order of the facts does not decide which defect a reason names."""
    at_m, length_mm = defect.at_m, defect.length_mm
    names = defect.class_name, defect.severity, defect.surface or "", defect.to_m or 0.0, defect.other_classes
    return at_m is None, at_m or 0.0, length_mm is None, length_mm or 0.0, *names


def most_in_window(places_m: Iterable[float], length_m: float) -> tuple[int, float | None]:
    """The most places in any window of this length, both ends included, and where the first such window starts."""
    places = sorted(places_m)
    most, at_m, first = 0, None, 0
    for last, place in enumerate(places):
        while place - places[first] > length_m:
            first += 1
        if last - first + 1 > most:
            most, at_m = last - first + 1, places[first]
    return most, at_m


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What is found in the best and in the worst case; the worst is None where it has no limit."""

    best: float
    worst: float | None
    at_m: float | None = None
    why: str = ""


def _results(ledger: _Ledger, row: Mapping[str, Any]) -> list[RuleResult]:
    """All rules of one row."""
    surface = row["surface"]
    found = []
    for rule, measure in _MEASURES.items():
        limit = row.get(rule)
        if limit is not None:
            found.append(_decided(row["grade"], rule, surface, limit, measure(ledger, surface)))
    for window in row["windows"]:
        names = "" if window["classes"] is None else f" of {', '.join(window['classes'])}"
        rule = f"{window['severity']}{names} in {window['length_m']:g} m"
        bounds = _windowed(window["length_m"], window["severity"], window["classes"])(ledger, surface)
        found.append(_decided(row["grade"], rule, surface, window["max"], bounds))
    if row.get("width_mm") is not None:
        found.append(_width(ledger, row["grade"], surface, tuple(row["width_mm"])))
    return found


def _decided(grade: str, rule: str, surface: str | None, limit: float, bounds: _Bounds | None) -> RuleResult:
    if bounds is None:
        return RuleResult(grade, rule, surface, limit, None, None, None, "it is not known")
    if bounds.best > limit:
        return RuleResult(grade, rule, surface, limit, bounds.best, bounds.at_m, False)
    if bounds.worst is None or bounds.worst > limit:
        return RuleResult(grade, rule, surface, limit, bounds.best, bounds.at_m, None, bounds.why)
    return RuleResult(grade, rule, surface, limit, bounds.worst, bounds.at_m, True)


_Measure = Callable[[_Ledger, str | None], _Bounds | None]


def _first(defects: Sequence[CoilDefect]) -> float | None:
    return min((defect.at_m for defect in defects if defect.at_m is not None), default=None)


def _counted(severity: DefectSeverity) -> _Measure:
    def measure(ledger: _Ledger, surface: str | None) -> _Bounds:
        certain, possible = ledger.select(surface, severity)
        is_complete = ledger.facts.is_complete
        worst = len(certain) + len(possible)
        why = "the surface of defects is not known" if is_complete else "events are missing"
        return _Bounds(len(certain), worst if is_complete else None, _first(certain), why)

    return measure


def _windowed(length_m: float, severity: DefectSeverity = "minor", classes: Sequence[str] | None = None) -> _Measure:
    def measure(ledger: _Ledger, surface: str | None) -> _Bounds:
        certain, possible = ledger.select(surface, severity, classes)
        best, at_m = most_in_window((d.at_m for d in certain if d.at_m is not None), length_m)
        both = [*certain, *possible]
        worst, _ = most_in_window((d.at_m for d in both if d.at_m is not None), length_m)
        worst += sum(d.at_m is None for d in both)
        is_complete = ledger.facts.is_complete
        why = "the place or the surface of defects is not known" if is_complete else "events are missing"
        return _Bounds(best, worst if is_complete else None, at_m, why)

    return measure


def _longest(ledger: _Ledger, surface: str | None) -> _Bounds:
    certain, possible = ledger.select(surface)
    best = max(certain, key=lambda d: d.length_mm or 0.0, default=None)
    both = [*certain, *possible]
    is_known = ledger.facts.is_complete and all(defect.length_mm is not None for defect in both)
    worst = max((defect.length_mm or 0.0 for defect in both), default=0.0) if is_known else None
    why = "the length of defects is not known" if ledger.facts.is_complete else "events are missing"
    return _Bounds(0.0 if best is None else best.length_mm or 0.0, worst, None if best is None else best.at_m, why)


def _roll_marks(ledger: _Ledger, surface: str | None) -> _Bounds | None:
    marks = ledger.facts.roll_marks
    if marks is None:
        return None
    certain = sum(surface is None or mark == surface for mark in marks)
    worst = sum(surface is None or mark in (None, surface) for mark in marks)
    is_known = ledger.facts.is_complete and all(defect.at_m is not None for defect in ledger.facts.defects)
    return _Bounds(certain, worst if is_known else None, None, "the place of defects is not known")


def _share(seen: tuple[str, ...]) -> _Measure:
    def measure(ledger: _Ledger, surface: str | None) -> _Bounds | None:
        share = ledger.share(surface, seen)
        return None if share is None else _Bounds(share[0], share[0], share[1])

    return measure


_MEASURES: Final[Mapping[str, _Measure]] = {
    "critical": _counted("critical"),
    "major": _counted("major"),
    "minor": _counted("minor"),
    "major_in_100m": _windowed(100.0, "major"),
    "in_10m": _windowed(10.0),
    "longest_mm": _longest,
    "roll_marks": _roll_marks,
    "missed_share": _share(("whole", "partial")),
    "partial_share": _share(("whole",)),
}
"""What each rule of a grade measures."""


def _width(ledger: _Ledger, grade: str, surface: str | None, limit: tuple[float, float]) -> RuleResult:
    """The width is within the limits at all places where it was measured.  Places that are not known count, too."""
    to_m = ledger.to_m if ledger.facts.has_ended else None
    points = [
        point
        for point in ledger.facts.widths
        if point.at_m is None or (point.at_m >= ledger.from_m and (to_m is None or point.at_m <= to_m))
    ]
    if not points:
        return RuleResult(grade, "width_mm", surface, limit, None, None, None, "nobody measured it")
    narrow = min(points, key=lambda point: point.least_mm)
    wide = max(points, key=lambda point: point.most_mm)
    if narrow.least_mm < limit[0]:
        return RuleResult(grade, "width_mm", surface, limit, narrow.least_mm, narrow.at_m, False)
    is_within = wide.most_mm <= limit[1]
    return RuleResult(grade, "width_mm", surface, limit, wide.most_mm, wide.at_m, is_within)
