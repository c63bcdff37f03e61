"""Recall against false alarms, for people: a table of common thresholds, and a plot for each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from edge.calibration import binomial
from edge.calibration.thresholds import MAX_THRESHOLD, Result, Sample, outcome
from edge.frame import Float64s

THRESHOLDS: Final = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
STEPS: Final = 200
COLUMNS: Final = 3
WIDE, HIGH, TOP = 360, 280, 60
"""Of a panel and of the title, px."""
LANE: Final = 56
"""Width of the lane left of the axis, px, for thresholds without any false alarm; its label has room."""
TICK_SIZE: Final = 0.36
LEFT, RIGHT, HEAD, FOOT = 48, WIDE - 16, 34, HIGH - 40
BLUE, BAND, RED, GREY = (150, 90, 30), (230, 214, 190), (40, 40, 200), (120, 120, 120)

Canvas = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Row:
    """All classes at one threshold.  recall: share of each class named right; None without pictures."""

    threshold: float
    alarms: int
    recall: tuple[float | None, ...]


def table(sample: Sample, temperature: float) -> list[Row]:
    """Rows for common thresholds, counted on all pictures."""
    p = sample.scores.probabilities(temperature).astype(np.float64)
    rows = []
    for threshold in THRESHOLDS:
        counts, alarms = outcome(p, sample.labels, np.full(sample.classes, threshold))
        shares = tuple(float(named / n) if n else None for n, _, named in counts.T.tolist())
        rows.append(Row(threshold, int(alarms.sum()), shares))
    return rows


@dataclass(frozen=True, slots=True)
class _Curve:
    """One class.

    own, defect_free: its confidence in its own pictures and in defect-free tiles, 0 where another class is stronger.
    """

    name: str
    own: Float64s
    defect_free: Float64s

    def at(self, threshold: float) -> tuple[int, int]:
        """False alarms, and pictures named right."""
        return int((self.defect_free >= threshold).sum()), int((self.own >= threshold).sum())

    def best(self, unsure: float) -> list[tuple[int, int]]:
        """The largest number of pictures named right for each number of false alarms."""
        most = dict[int, int]()
        for threshold in (*np.linspace(unsure, MAX_THRESHOLD, STEPS), 1.0):
            alarms, kept = self.at(float(threshold))
            most[alarms] = max(kept, most.get(alarms, 0))
        return sorted(most.items())


def chart(sample: Sample, result: Result, names: Sequence[str], unsure: float, per_hour: float | None) -> Canvas:
    """(H, 1080, 3) uint8 BGR: recall of each class against false alarms over all thresholds, with exact 95 % intervals.

    per_hour: tiles of the camera in an hour; None: false alarms are shares of the defect-free tiles.
    """
    p = sample.scores.probabilities(result.fit.temperature).astype(np.float64)
    best, top, labels = p.argmax(axis=1), p.max(axis=1), sample.labels
    shown = [i for i in range(sample.classes) if (labels == i).any()]
    canvas = np.full((TOP + HIGH * -(-len(shown) // COLUMNS), COLUMNS * WIDE, 3), 250, np.uint8)
    unit = (
        "false alarms an hour, one class, before confirmation" if per_hour else "share of defect-free tiles, one class"
    )
    _write(canvas, f"recall (named right) over {unit}", (12, 22), 0.5)
    legend = (
        "on the pictures that set the thresholds; bands and bars: exact 95 %; "
        f"n defect-free = {result.defect_free}; lane 0: no such tile; dot: chosen threshold"
    )
    _write(canvas, legend, (12, 44), 0.45)
    for place, i in enumerate(shown):
        x, y = (place % COLUMNS) * WIDE, TOP + (place // COLUMNS) * HIGH
        confidence = np.where(best == i, top, 0.0)
        curve = _Curve(names[i], confidence[labels == i], confidence[labels == sample.classes])
        _panel(canvas[y : y + HIGH, x : x + WIDE], curve, float(result.fit.thresholds[i]), unsure, per_hour or 1.0)
    return canvas


@dataclass(frozen=True, slots=True)
class AlarmAxis:
    """False alarms from 10^least to 10^most, logarithmic, right of a lane for none."""

    least: int
    most: int

    @classmethod
    def of(cls, defect_free: int, per_hour: float) -> AlarmAxis:
        """defect_free: tiles.  The axis starts at or below the alarms of one tile."""
        return cls(floor(np.log10(per_hour / max(1, defect_free))), ceil(np.log10(per_hour)))

    def x(self, alarms: float) -> int:
        """The column, px; 0 is in the middle of the lane."""
        if alarms <= 0:
            return LEFT + LANE // 2
        place = (np.log10(alarms) - self.least) / max(1, self.most - self.least)
        return round(LEFT + LANE + float(np.clip(place, 0, 1)) * (RIGHT - LEFT - LANE))

    def ticks(self) -> list[tuple[int, str, int]]:
        """The column of each tick, its label, and the label's left edge, px."""
        step = 1 if self.most - self.least < 6 else 2
        powers = range(self.least, self.most + 1, step)
        decades = [(self.x(10.0**n), f"{10.0**n:g}" if -3 <= n <= 2 else f"1e{n}") for n in powers]
        labels = [(self.x(0.0), "0"), *decades]
        return [(px, text, min(px - width_px(text) // 2, WIDE - 4 - width_px(text))) for px, text in labels]


def width_px(text: str) -> int:
    """Of a label of the axis."""
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, TICK_SIZE, 1)
    return int(width)


def _panel(canvas: Canvas, curve: _Curve, chosen: float, unsure: float, per_hour: float) -> None:
    n, of = len(curve.own), max(1, len(curve.defect_free))
    axis = AlarmAxis.of(len(curve.defect_free), per_hour)
    start = LEFT + LANE

    def x(share: float) -> int:
        return axis.x(share * per_hour)

    line = [(x(alarms / of), kept) for alarms, kept in curve.best(unsure)]
    for (px, kept), end in zip(line, [*(px for px, _ in line[1:]), line[-1][0] + 6], strict=True):
        low, high = binomial.interval(kept, n)
        left, right = (LEFT, start) if px < start else (px, end)
        cv2.rectangle(canvas, (left, _y(high)), (right, _y(low)), BAND, -1)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        cv2.line(canvas, (LEFT, _y(share)), (RIGHT, _y(share)), (215, 215, 215), 1)
        _write(canvas, f"{share:.2f}", (8, _y(share) + 4), TICK_SIZE)
    cv2.line(canvas, (start, HEAD), (start, FOOT), GREY, 1)
    cv2.polylines(canvas, [np.array([(px, _y(k / n)) for px, k in line], np.int32)], False, BLUE, 2, cv2.LINE_AA)
    for px, text, left in axis.ticks():
        if text != "0":
            cv2.line(canvas, (px, FOOT), (px, FOOT + 4), GREY, 1)
        _write(canvas, text, (left, FOOT + 16), TICK_SIZE)
    cv2.rectangle(canvas, (LEFT, HEAD), (RIGHT, FOOT), GREY, 1)
    alarms, kept = curve.at(chosen)
    if len(curve.defect_free):
        bounds = binomial.interval(alarms, of)
        cv2.line(canvas, (x(bounds[0]), _y(kept / n)), (x(bounds[1]), _y(kept / n)), RED, 1, cv2.LINE_AA)
    cv2.circle(canvas, (x(alarms / of), _y(kept / n)), 5, RED, -1, cv2.LINE_AA)
    low, high = binomial.interval(kept, n)
    title = f"{curve.name} at {chosen:.3f}: {kept} of {n} [{low:.2f}, {high:.2f}], {alarms} alarms"
    _write(canvas, title, (8, 18), 0.4)


def _y(share: float) -> int:
    return round(FOOT - share * (FOOT - HEAD))


def _write(canvas: Canvas, text: str, at: tuple[int, int], size: float) -> None:
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, (40, 40, 40), 1, cv2.LINE_AA)
