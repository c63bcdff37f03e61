"""From tile scores to the defects of one frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edge import config
from edge.errors import ConfigError, Problem
from edge.frame import Bools, Box, Float32s

Ints = npt.NDArray[np.int32]

ABSORBED = 0.5
"""A weaker region that touches a stronger one and has this share of its area inside its box is the same flaw."""
CLEAR = 0.9
"""From this confidence on, a region that touches a stronger one of another class is a flaw of its own."""


ANOMALY: Final = "anomaly"
"""Stands in the place of a class where surface is not as it should be, and no class is sure."""


@dataclass(frozen=True, slots=True)
class Region:
    """Touching tiles of one class.

    anomaly: the largest strangeness among them, in units of the threshold; None without a calibration of good surface.
    extent_px: where in the box the flaw itself shows (`edge.vision.defect_extent`); None where nothing stands out.
    """

    class_name: str
    confidence: float
    box_px: Box
    tiles: int
    peak_px: Box | None = None
    """The most certain of its tiles."""
    anomaly: float | None = None
    extent_px: Box | None = None


@dataclass(frozen=True, slots=True)
class Findings:
    """What the tiles of one frame say.  regions: strongest first.  suspects: boxes of the unsure tiles."""

    regions: tuple[Region, ...]
    suspects: tuple[Box, ...]


NOTHING: Final = Findings((), ())


@dataclass(frozen=True, slots=True)
class Thresholds:
    """per_class: (classes,) float32, probability from which a tile is a defect.  unsure: the lower end of doubt.

    No class's threshold is below `unsure`: the configuration sees to it.
    """

    classes: tuple[str, ...]
    per_class: Float32s
    unsure: float

    @classmethod
    def of(
        cls,
        decision: config.Decision,
        classes: Sequence[str],
        camera: str,
        calibrated_thresholds: config.CalibratedThresholds | None = None,
    ) -> Thresholds:
        """The thresholds in the model's class order.  Raises ConfigError for a class the model does not know.

        levels: go before `confidence`, and after the classes that `decision` names.
        """
        calibrated = {} if calibrated_thresholds is None else calibrated_thresholds.classes
        named = {f"decision.classes.{name}": name for name in decision.classes}
        named |= {f"calibrated_thresholds.classes.{name}": name for name in calibrated}
        unknown = {key: name for key, name in named.items() if name not in classes}
        if unknown:
            remedy = f"The model knows: {', '.join(classes)}"
            problems = [
                Problem(f"{key} of camera {camera}", name, "not a class of the model", remedy)
                for key, name in unknown.items()
            ]
            raise ConfigError("configuration", tuple(problems))
        general = {name: max(calibrated.get(name, decision.confidence), decision.unsure) for name in classes}
        per_class = [decision.classes.get(name, general[name]) for name in classes]
        return cls(tuple(classes), np.array(per_class, np.float32), decision.unsure)


@dataclass(frozen=True, slots=True)
class AnomalyScores:
    """How far tiles are from calibrated good surface: `edge.vision.anomaly`.

    scores: (N,) float32.  threshold: above it a tile is a defect.  doubt: from there to the threshold it is unsure.
    """

    scores: Float32s
    threshold: float
    doubt: float

    @property
    def worst(self) -> float:
        """The largest score in units of the threshold; NaN when one is no number."""
        return float(np.maximum.reduce(self.scores)) / self.threshold


def decide(
    probabilities: Float32s,
    boxes: Ints,
    cells: Ints,
    thresholds: Thresholds,
    *,
    has_good: bool,
    strangeness: AnomalyScores | None = None,
) -> Findings:
    """Judge each tile and join what belongs together.

    probabilities: (N, classes) of `Scores.probabilities`.  boxes: (N, 4).  cells: (N, 2) row and column.
    has_good: the rows leave room for "no defect", so that their sum is the probability of any defect.
    A tile is a defect when its best class reaches that class's threshold. It is unsure when the probability
    of any defect (without `has_good`: of the best class) reaches `unsure`, and when its scores are not numbers.
    With `strangeness`, whose score has the class evidence in it, that alone says which tiles are defects and which are
    unsure: one number governs false alarms. The classes only give the name, `anomaly` where none reaches its threshold.
    """
    if strangeness is not None:
        return _by_strangeness(probabilities, boxes, cells, thresholds, strangeness)
    suspicion = (np.add if has_good else np.maximum).reduce(probabilities, 1)
    if suspicion.max(initial=0.0) < thresholds.unsure:  # no class's threshold is lower; NaN is below nothing
        return NOTHING
    best = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    defect = confidence >= thresholds.per_class[best]
    unsure = ~defect & ~(suspicion < thresholds.unsure)
    if not defect.any():
        return Findings((), _rows(boxes, unsure))
    return Findings(_joined(best, confidence, defect, boxes, cells, thresholds.classes), _rows(boxes, unsure))


def _by_strangeness(
    probabilities: Float32s, boxes: Ints, cells: Ints, thresholds: Thresholds, strangeness: AnomalyScores
) -> Findings:
    scores = strangeness.scores
    plain = scores <= strangeness.doubt  # NaN is not
    if plain.all():
        return NOTHING
    defect = scores > strangeness.threshold
    unsure = ~defect & ~plain
    if not defect.any():
        return Findings((), _rows(boxes, unsure))
    best = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    nameless = defect & ~(confidence >= thresholds.per_class[best])
    best[nameless] = len(thresholds.classes)
    _name_neighbours(best, defect, nameless, cells)
    names = (*thresholds.classes, ANOMALY)
    ratios = scores / np.float32(strangeness.threshold)
    return Findings(_joined(best, np.nan_to_num(confidence), defect, boxes, cells, names, ratios), _rows(boxes, unsure))


def _name_neighbours(best: npt.NDArray[np.intp], defect: Bools, nameless: Bools, cells: Ints) -> None:
    """A tile without a class that touches one with a class is of that flaw, and so on outwards; in place."""
    at = {(int(cells[i, 0]), int(cells[i, 1])): int(i) for i in np.flatnonzero(nameless)}
    front = [int(i) for i in np.flatnonzero(defect & ~nameless)]
    while front and at:
        row, column = (int(v) for v in cells[front[0]])
        for neighbour in [(row + dr, column + dc) for dr in (-1, 0, 1) for dc in (-1, 0, 1)]:
            index = at.pop(neighbour, None)
            if index is not None:
                best[index] = best[front[0]]
                front.append(index)
        front.pop(0)


def _joined(
    best: npt.NDArray[np.intp],
    confidence: Float32s,
    defect: Bools,
    boxes: Ints,
    cells: Ints,
    names: Sequence[str],
    anomaly: Float32s | None = None,
) -> tuple[Region, ...]:
    """Regions of the tiles that are defects, strongest first."""
    certain = confidence if anomaly is None else anomaly
    flaws = [
        _Flaw(
            Region(
                names[int(best[members[0]])],
                float(confidence[members].max()),
                _hull(boxes[members]),
                len(members),
                _box(boxes[members[int(certain[members].argmax())]]),
                None if anomaly is None else round(float(anomaly[members].max()), 3),
            ),
            frozenset((int(row), int(column)) for row, column in cells[members]),
        )
        for members in _components(best, defect, cells)
    ]
    flaws.sort(key=lambda flaw: (-flaw.region.confidence, flaw.region.box_px))
    return tuple(flaw.region for flaw in _without_shadows(flaws))


@dataclass(frozen=True, slots=True)
class _Flaw:
    region: Region
    cells: frozenset[tuple[int, int]]


def _components(best: npt.NDArray[np.intp], defect: Bools, cells: Ints) -> list[list[int]]:
    """Groups of defect tiles of one class that touch each other, corners included."""
    at = {(int(cells[i, 0]), int(cells[i, 1])): int(i) for i in np.flatnonzero(defect)}
    groups: list[list[int]] = []
    while at:
        cell, first = next(iter(at.items()))
        del at[cell]
        group, front = [first], [cell]
        while front:
            row, column = front.pop()
            for neighbour in [(row + dr, column + dc) for dr in (-1, 0, 1) for dc in (-1, 0, 1)]:
                index = at.get(neighbour)
                if index is not None and best[index] == best[first]:
                    del at[neighbour]
                    group.append(index)
                    front.append(neighbour)
        groups.append(group)
    return groups


def _without_shadows(flaws: Sequence[_Flaw]) -> list[_Flaw]:
    """Drop what touches a stronger flaw and lies mostly inside its box, or is not clear: one flaw, two classes.

    Touching is asked for because the box of a slanting scratch holds much surface that is not scratched. The edge of
    a flaw that reaches into the next tile often looks like another class, but seldom with certainty.
    """
    kept: list[_Flaw] = []
    for flaw in flaws:
        box = flaw.region.box_px
        around = {(row + dr, column + dc) for row, column in flaw.cells for dr in (-1, 0, 1) for dc in (-1, 0, 1)}
        is_clear = flaw.region.confidence >= CLEAR
        if not any(
            not around.isdisjoint(strong.cells)
            and (not is_clear or overlap_px(box, strong.region.box_px) >= ABSORBED * box[2] * box[3])
            for strong in kept
        ):
            kept.append(flaw)
    return kept


def overlap_px(a: Box, b: Box) -> int:
    """Shared area of two boxes, px."""
    shared = within(a, b)
    return 0 if shared is None else shared[2] * shared[3]


def within(a: Box, b: Box) -> Box | None:
    """What two boxes share; None where that is nothing."""
    left, top = max(a[0], b[0]), max(a[1], b[1])
    right, bottom = min(a[0] + a[2], b[0] + b[2]), min(a[1] + a[3], b[1] + b[3])
    return (left, top, right - left, bottom - top) if left < right and top < bottom else None


def union(a: Box, b: Box) -> Box:
    """The smallest box around both."""
    left, top = min(a[0], b[0]), min(a[1], b[1])
    right, bottom = max(a[0] + a[2], b[0] + b[2]), max(a[1] + a[3], b[1] + b[3])
    return left, top, right - left, bottom - top


def _hull(boxes: Ints) -> Box:
    left, top = boxes[:, 0].min(), boxes[:, 1].min()
    right, bottom = (boxes[:, 0] + boxes[:, 2]).max(), (boxes[:, 1] + boxes[:, 3]).max()
    return int(left), int(top), int(right - left), int(bottom - top)


def _box(row: Ints) -> Box:
    x, y, w, h = row.tolist()
    return x, y, w, h


def _rows(boxes: Ints, chosen: Bools) -> tuple[Box, ...]:
    return tuple(_box(row) for row in boxes[chosen])
