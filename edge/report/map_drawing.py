"""Draws the map of a coil: lanes with defects, roll marks and holes, the density below; and its width."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from edge.coverage.coil_map import SEVERITIES
from edge.report import words
from edge.report.class_shapes import class_shape
from edge.report.coil_report import CoilReport, MapCell, MapMark, WidthCurve
from edge.report.drawing import (
    BAD,
    INK,
    INSPECTED,
    LINE,
    LINE_SOFT,
    PAPER,
    SEVERITY,
    SOFT,
    SUNK,
    WARN,
    WARN_SOFT,
    Box,
    Drawing,
    Measure,
    Shape,
    Stroke,
    Text,
    roughly,
)

LEFT: Final = 52.0
RIGHT: Final = 9.0
LANE: Final = 80.0
COVER: Final = 6.0
GAP: Final = 6.0
AXIS: Final = 15.0
DENSITY: Final = 34.0
MIN_HOLE: Final = 2.5
_RADIUS: Final = {"minor": 3.6, "major": 5.0, "critical": 5.6}
_STEPS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)


def legend(
    report: CoilReport, x_end: float, y: float, size: float = 8.0, measure: Measure = roughly
) -> Iterator[Shape]:
    """The shapes of the coil's classes, right-aligned."""
    names = tuple(row.class_name for row in report.classes[:7])
    entries = [words.class_name(name) for name in names]
    x = x_end
    for severity in ("critical", "major"):
        yield Text(x, y, severity, size, SEVERITY[severity], "end", is_bold=True)
        x -= measure(severity, size, is_bold=True) + 9
    for name, text in reversed(list(zip(names, entries, strict=True))):
        shown = words.shortened(text, 22)
        yield Text(x, y, shown, size, SOFT, "end")
        x -= measure(shown, size) + 7
        yield from class_shape(name, x, y - size * 0.34, size * 0.42, SEVERITY["minor"], names)
        x -= 14


def map_drawing(report: CoilReport, w: float, lane_h: float = LANE) -> Drawing:
    """The map: a lane for each surface, its holes below it, then the axis and the density."""
    scale = _Scale(report, w, lane_h)
    shapes: list[Shape] = []
    for place, lane in enumerate(report.lanes):
        shapes += _lane(report, scale, place, lane.name, has_sides=lane.has_sides)
    shapes += _axis(report, scale)
    shapes += _density(report, scale)
    return Drawing(w, scale.density_top + DENSITY + 2, tuple(shapes))


class _Scale:
    def __init__(self, report: CoilReport, w: float, lane_h: float) -> None:
        self.right = w - RIGHT
        self.lane_h = lane_h
        self.reach_m = max(report.map.reach_m, 1.0)
        self.width_mm = report.map.width_mm
        self.axis_top = len(report.lanes) * (lane_h + COVER + GAP + 1)
        self.density_top = self.axis_top + AXIS

    def x(self, m: float) -> float:
        return LEFT + min(1.0, max(0.0, m / self.reach_m)) * (self.right - LEFT)

    def top(self, place: int) -> float:
        return place * (self.lane_h + COVER + GAP + 1)

    def y(self, place: int, across_mm: float | None, number: int = 0) -> float:
        """Unknown places across lie around the middle, apart from each other."""
        share = (
            0.35 + 0.3 * ((number * 0.618) % 1) if across_mm is None else min(1.0, max(0.0, across_mm / self.width_mm))
        )
        return self.top(place) + 6 + share * (self.lane_h - 12)

    def ticks(self) -> list[float]:
        wanted = max(3, int((self.right - LEFT) / 62))
        step = next((one for one in _STEPS if self.reach_m / one <= wanted), _STEPS[-1])
        return [float(m) for m in range(step, int(self.reach_m) + 1, step)]


def _lane(report: CoilReport, scale: _Scale, place: int, lane: str, *, has_sides: bool) -> Iterator[Shape]:
    top, w = scale.top(place), scale.right - LEFT
    yield Box(LEFT, top, w, scale.lane_h, SUNK, LINE, 0.8)
    for m in scale.ticks():
        yield Stroke(((scale.x(m), top), (scale.x(m), top + scale.lane_h)), LINE_SOFT, 0.8)
    yield Text(LEFT - 6, top + scale.lane_h / 2 + 3, words.shortened(lane, 9), 8.5, INK, "end", is_bold=True)
    if has_sides:
        yield Text(LEFT - 6, top + 9, "OS", 7.5, SOFT, "end")
        yield Text(LEFT - 6, top + scale.lane_h - 3, "DS", 7.5, SOFT, "end")
    yield from _cover(report, scale, top + scale.lane_h + 1, lane)
    chart = report.map
    if chart.marks is not None:
        names = tuple(row.class_name for row in report.classes)
        found = [(number, mark) for number, mark in enumerate(chart.marks) if mark.lane == lane]
        for severity in SEVERITIES:
            for number, mark in found:
                if mark.severity == severity:
                    yield from _mark(scale, place, number, mark, names)
    else:
        cells = [cell for cell in chart.cells or () if cell.lane == lane]
        most = max((cell.defects for cell in cells), default=1)
        for cell in cells:
            yield _cell(scale, place, cell, most)
    yield from _roll_marks(report, scale, place, lane)


def _mark(scale: _Scale, place: int, number: int, mark: MapMark, names: tuple[str, ...]) -> Iterator[Shape]:
    x, y, color = scale.x(mark.m), scale.y(place, mark.across_mm, number), SEVERITY[mark.severity]
    yield from class_shape(mark.class_name, x, y, _RADIUS[mark.severity], color, names)
    if mark.severity == "critical":
        yield Box(x - 8.5, y - 8.5, 17, 17, None, color, 1.4)


def _cell(scale: _Scale, place: int, cell: MapCell, most: int) -> Shape:
    """The more defects, the larger: its area grows with the logarithm of their number."""
    across = cell.across_mm or (0.45 * scale.width_mm, 0.55 * scale.width_mm)
    x0, x1 = scale.x(cell.from_m), scale.x(cell.to_m)
    y0, y1 = scale.y(place, across[0]), scale.y(place, across[1])
    share = math.sqrt(0.15 + 0.85 * math.log1p(cell.defects) / math.log1p(most))
    w, h = (x1 - x0) * share, (y1 - y0) * share
    return Box((x0 + x1 - w) / 2, (y0 + y1 - h) / 2, w, h, SEVERITY[cell.severity])


def _cover(report: CoilReport, scale: _Scale, y: float, lane: str) -> Iterator[Shape]:
    """What was inspected, and the holes: unknown ones hatched."""
    yield Box(LEFT, y, scale.right - LEFT, COVER, INSPECTED)
    for from_m, to_m, kind in report.holes.get(lane, ()):
        x = scale.x(from_m)
        w = max(MIN_HOLE, scale.x(to_m) - x)
        if kind == "missed":
            yield Box(x, y - 0.7, w, COVER + 1.4, BAD)
        elif kind == "partial":
            yield Box(x, y - 0.3, w, COVER + 0.6, WARN_SOFT, WARN, 0.9)
        else:
            yield Box(x, y - 0.3, w, COVER + 0.6, PAPER, BAD, 0.7)
            steps = min(400, int(w / 4))
            for k in range(steps):
                yield Stroke(((x + 4 * k, y + COVER), (x + 4 * k + 4, y)), BAD, 0.7)


def _roll_marks(report: CoilReport, scale: _Scale, place: int, lane: str) -> Iterator[Shape]:
    for mark in report.roll_marks[:12]:
        if mark["lane"] != lane:
            continue
        x0, x1 = scale.x(mark["from_m"]) - 5, scale.x(mark["to_m"]) + 5
        y = scale.y(place, mark["across_mm"])
        yield Box(x0, y - 8, x1 - x0, 16, None, WARN, 1.4)
        text = f"roll mark, every {mark['period_m']:.3f} m"
        is_left = x1 + 5 + 4.3 * len(text) > scale.right
        x, anchor = (x0 - 4, "end") if is_left else (x1 + 4, "start")
        yield Text(x, y + 3, text, 8, INK, "end" if anchor == "end" else "start", is_bold=True)


def _axis(report: CoilReport, scale: _Scale) -> Iterator[Shape]:
    y = scale.axis_top + 8
    first, last = ("head", "tail") if report.counted_from == "head" else ("tail", "head")
    yield Text(LEFT, y, first, 7.5, INK, is_bold=True)
    yield Text(scale.right, y, "now" if report.is_so_far else last, 7.5, INK, "end", is_bold=True)
    for m in scale.ticks():
        if LEFT + 34 < scale.x(m) < scale.right - 34:
            yield Text(scale.x(m), y, f"{m:,.0f} m", 7.5, SOFT, "middle")


def _density(report: CoilReport, scale: _Scale) -> Iterator[Shape]:
    top, bottom = scale.density_top, scale.density_top + DENSITY
    yield Box(LEFT, top, scale.right - LEFT, DENSITY, SUNK, LINE, 0.8)
    limit = _limit_in_10m(report)
    size_m = report.density[0].to_m - report.density[0].from_m if report.density else 10.0
    most = max([*(one.defects for one in report.density), limit or 0, 1])
    unit = (DENSITY - 4) / most
    for one in report.density:
        x, w = scale.x(one.from_m), max(0.6, scale.x(one.to_m) - scale.x(one.from_m) - 0.6)
        y = bottom
        for severity in ("minor", "major", "critical"):
            h = getattr(one, severity) * unit
            if h:
                y -= h
                yield Box(x, y, w, h, SEVERITY[severity])
    if limit is not None and size_m == 10.0:
        y = bottom - limit * unit
        yield Stroke(((LEFT, y), (scale.right, y)), BAD, 1.0, (4, 3))
        yield Text(LEFT - 6, max(top + 6, y + 3), f"limit {limit:g}", 7.5, SOFT, "end")
    else:
        yield Text(LEFT - 6, top + 7, f"{most:,}", 7.5, SOFT, "end")
    yield Text(LEFT - 6, bottom - 2, f"in {size_m:,.0f} m", 7.5, SOFT, "end")


def _limit_in_10m(report: CoilReport) -> float | None:
    rules = () if report.grade is None else report.grade["rules"]
    return next((rule["limit"] for rule in rules if rule["rule"] == "in_10m" and not rule["surface"]), None)


def width_drawing(width: WidthCurve, reach_m: float, w: float, h: float = 86.0) -> Drawing:
    """The width along the coil with its limits: the median, and least and most as a band."""
    low, high = width.least, width.most
    limits: tuple[float, ...] = ()
    if width.nominal_mm is not None and width.tolerance_mm is not None:
        limits = (width.nominal_mm - width.tolerance_mm, width.nominal_mm + width.tolerance_mm)
    low, high = min([low, *limits]), max([high, *limits])
    margin = max(0.5, (high - low) * 0.15)
    low, high, right, bottom = low - margin, high + margin, w - RIGHT, h - 14

    def point(m: float, mm: float) -> tuple[float, float]:
        x = LEFT + min(1.0, max(0.0, m / max(reach_m, 1.0))) * (right - LEFT)
        return x, 2 + (1 - (min(high, max(low, mm)) - low) / (high - low)) * (bottom - 4)

    shapes: list[Shape] = [Box(LEFT, 0, right - LEFT, bottom, SUNK, LINE, 0.8)]
    for m, _, least, most in width.curve:
        if most > least:
            shapes.append(Stroke((point(m, least), point(m, most)), INSPECTED, 0.9))
    for limit in limits:
        y = point(0, limit)[1]
        shapes.append(Stroke(((LEFT, y), (right, y)), BAD, 1.0, (4, 3)))
        shapes.append(Text(LEFT - 6, y + 3, f"{limit:,.1f}", 7.5, SOFT, "end"))
    if len(width.curve) > 1:
        shapes.append(Stroke(tuple(point(m, median) for m, median, _, _ in width.curve), INK, 1.1))
    if not limits:
        ends = (width.least, width.most)
        shapes += (Text(LEFT - 6, point(0, mm)[1] + 3, f"{mm:,.1f}", 7.5, SOFT, "end") for mm in ends)
    shapes.append(Text(LEFT, h - 3, "0 m", 7.5, SOFT))
    shapes.append(Text(right, h - 3, f"{reach_m:,.0f} m", 7.5, SOFT, "end"))
    return Drawing(w, h, tuple(shapes))
