"""From tile scores to the defects of one frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from edge.frame import Bools, Box, Float32s, Indices
from edge.model.sharpness import sharpened
from edge.vision.boxes import all_within, overlap_px
from edge.vision.thresholds import Thresholds

Ints = npt.NDArray[np.int32]

ABSORBED_SHARE: Final = 0.5
"""A weaker region that touches a stronger one is the same defect if the stronger box holds this share of its area."""
CLEAR_CONFIDENCE: Final = 0.9
"""From this confidence on, a region that touches a stronger one of another class is a defect of its own."""

MAX_SCORES: Final = 8
"""Classes whose probability a picture states."""

ANOMALY: Final = "anomaly"
"""The class name of an anomalous region for which no class reaches its threshold."""
UNKNOWN: Final = "unknown"
"""The class name of a defect on a surface that the model was not trained on; what it looks like stands beside it."""
MAX_CANDIDATES: Final = 3
CERTAIN: Final = 0.9
"""Where names are weak, a tile is a defect from this probability of any defect on, although no class is likely."""
Naming = Literal["classes", "taught", "unknown"]
"""How far the names are to be trusted. classes: those of the model, on steel like that of its training. taught: from a
few pictures. unknown: other steel, and nothing was taught."""


Candidates = tuple[tuple[str, float], ...]
"""Names with their probabilities, the most probable first."""


@dataclass(frozen=True, slots=True)
class Region:
    """Touching tiles of one class.

    candidates: what an unknown defect looks like, in its strongest tile.
    weight: the highest probability by which its tiles were decided: how much it counts in the choice of a class over
    frames; None: the confidence.
    anomaly: the largest anomaly score of its tiles, in units of the threshold; None without an anomaly model.
    extent_px: the box around the defect itself, inside box_px (`edge.vision.defect_extent`); None: it is not known.
    """

    class_name: str
    confidence: float
    box_px: Box
    tiles: int
    peak_px: Box | None = None
    """The tile with the highest confidence, or the highest anomaly score where there is an anomaly model."""
    anomaly: float | None = None
    extent_px: Box | None = None
    candidates: Candidates = ()
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Detections:
    """The defects of one frame.  regions: strongest first.  unsure_boxes: of the unsure tiles."""

    regions: tuple[Region, ...]
    unsure_boxes: tuple[Box, ...]


NO_DETECTIONS: Final = Detections((), ())


@dataclass(frozen=True, slots=True)
class AnomalyScores:
    """How far each tile is from calibrated good surface: `edge.vision.anomaly`.

    scores: (N,) float32.  threshold: above it a tile is a defect.  unsure_threshold: above it, a tile is unsure.
    """

    scores: Float32s
    threshold: float
    unsure_threshold: float

    @property
    def worst(self) -> float:
        """The largest score in units of the threshold; NaN when a score is NaN."""
        return float(np.maximum.reduce(self.scores)) / self.threshold


@dataclass(frozen=True, slots=True, eq=False)
class TileScores:
    """What the model found in each inspected tile of a frame.

    probabilities: (N, classes) float32.  boxes: (N, 4) int32, x y w h, px.  model: `Inspector.names_from`.
    """

    classes: tuple[str, ...]
    probabilities: Float32s
    boxes: Ints
    model: str
    has_good: bool = False
    anomaly: AnomalyScores | None = None

    def of(self, box: Box) -> dict[str, Any]:
        """The scores of one tile as a picture's facts state them; empty for a tile that was not inspected.

        scores: the probable classes, most probable first, `good` among them where the network has that output.
        anomaly: the anomaly score in units of the threshold.
        """
        found = np.flatnonzero((self.boxes == np.asarray(box, np.int32)).all(axis=1))
        if not len(found):
            return {}
        p = self.probabilities[found[0]]
        facts: dict[str, Any] = {"model": self.model}
        if np.isfinite(p).all():
            named = dict(zip(self.classes, p.tolist(), strict=True))
            if self.has_good:
                named["good"] = max(0.0, 1.0 - float(p.sum()))
            strongest = sorted(named.items(), key=lambda one: -one[1])[:MAX_SCORES]
            facts["scores"] = {name: round(value, 4) for name, value in strongest}
        if self.anomaly is not None and np.isfinite(self.anomaly.scores[found[0]]):
            facts["anomaly"] = round(float(self.anomaly.scores[found[0]]) / self.anomaly.threshold, 3)
        return facts


def decide(
    probabilities: Float32s,
    boxes: Ints,
    cells: Ints,
    thresholds: Thresholds,
    *,
    has_good: bool,
    anomaly_scores: AnomalyScores | None = None,
    naming: Naming = "classes",
    sharpness: float = 1.0,
) -> Detections:
    """Decide for each tile, and join the tiles of one defect into a region.

    probabilities: (N, classes) float32 of `Scores.probabilities`.  boxes: (N, 4) int32, x y w h, px.
    cells: (N, 2) int32, row and column.  has_good: the network has an output for "no defect", so that a row sums to the
    probability of any defect.

    A tile is a defect when its best class reaches that class's threshold. It is unsure when the probability of any
    defect (without `has_good`: of the best class) reaches `unsure`, and when its scores are NaN.

    With anomaly scores, these alone decide which tiles are defects and which are unsure: they include the evidence of
    the classes, and one number then governs false alarms. The classes only give the name: `anomaly` where no class
    reaches its threshold.

    naming: with `taught` and `unknown`, and `has_good`, a tile is also a defect when any defect is CERTAIN. It is then
    `unknown`, with candidates, where no class reaches its threshold; with `unknown` every region is. The confidence of
    an unknown region is the probability of any defect.

    sharpness: makes the published confidence of a class out of its probability, once everything is decided.
    """
    if anomaly_scores is not None:
        found = _by_anomaly_score(probabilities, boxes, cells, thresholds, anomaly_scores, naming)
    else:
        found = _by_class(probabilities, boxes, cells, thresholds, has_good=has_good, naming=naming)
    if sharpness == 1.0:
        return found
    regions = (_with_confidence(one, probabilities, boxes, sharpness, has_good=has_good) for one in found.regions)
    return replace(found, regions=tuple(regions))


def _with_confidence(
    region: Region, probabilities: Float32s, boxes: Ints, sharpness: float, *, has_good: bool
) -> Region:
    """The region of a class with the published confidence of its strongest tile; `weight` is what decided."""
    if region.class_name in (ANOMALY, UNKNOWN):
        return region
    inside = all_within(boxes, region.box_px)
    strongest = int((inside & (probabilities.max(axis=1) == np.float32(region.confidence))).argmax())
    published = sharpened(probabilities[strongest : strongest + 1], sharpness, has_good=has_good)
    return replace(region, confidence=float(published.max()), weight=region.confidence)


def _by_class(
    probabilities: Float32s, boxes: Ints, cells: Ints, thresholds: Thresholds, *, has_good: bool, naming: Naming
) -> Detections:
    evidence = (np.add if has_good else np.maximum).reduce(probabilities, 1)
    if evidence.max(initial=0.0) < thresholds.unsure:  # no class's threshold is lower; a comparison with NaN is false
        return NO_DETECTIONS
    best = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    defect = defective(probabilities, thresholds)
    named = defect
    if naming != "classes" and has_good:
        defect = defect | (evidence >= CERTAIN)
    unsure = ~defect & ~(evidence < thresholds.unsure)
    if not defect.any():
        return Detections((), _rows(boxes, unsure))
    if naming != "classes":
        unnamed = defect if naming == "unknown" else defect & ~named
        regions = _weakly_named(probabilities, evidence, defect, unnamed, boxes, cells, thresholds)
        return Detections(regions, _rows(boxes, unsure))
    return Detections(_joined(best, confidence, defect, boxes, cells, thresholds.classes), _rows(boxes, unsure))


def defective(probabilities: Float32s, thresholds: Thresholds) -> Bools:
    """(N,) the tiles that the classes call a defect.  probabilities: (N, classes) float32."""
    return np.asarray(probabilities.max(axis=1) >= thresholds.per_class[probabilities.argmax(axis=1)], np.bool_)


def _by_anomaly_score(
    probabilities: Float32s,
    boxes: Ints,
    cells: Ints,
    thresholds: Thresholds,
    anomaly_scores: AnomalyScores,
    naming: Naming,
) -> Detections:
    scores = anomaly_scores.scores
    is_good = scores <= anomaly_scores.unsure_threshold  # false for NaN
    if is_good.all():
        return NO_DETECTIONS
    defect = scores > anomaly_scores.threshold
    unsure = ~defect & ~is_good
    if not defect.any():
        return Detections((), _rows(boxes, unsure))
    ratios = scores / np.float32(anomaly_scores.threshold)
    if naming == "unknown":
        evidence = np.nan_to_num(np.add.reduce(probabilities, 1))
        regions = _weakly_named(probabilities, evidence, defect, defect, boxes, cells, thresholds, ratios)
        return Detections(regions, _rows(boxes, unsure))
    best = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    unnamed = defect & ~(confidence >= thresholds.per_class[best])
    best[unnamed] = len(thresholds.classes)
    _name_neighbours(best, defect, unnamed, cells)
    names = (*thresholds.classes, ANOMALY)
    return Detections(
        _joined(best, np.nan_to_num(confidence), defect, boxes, cells, names, ratios), _rows(boxes, unsure)
    )


def _weakly_named(
    probabilities: Float32s,
    evidence: Float32s,
    defect: Bools,
    unnamed: Bools,
    boxes: Ints,
    cells: Ints,
    thresholds: Thresholds,
    anomaly: Float32s | None = None,
) -> tuple[Region, ...]:
    """Join the defect tiles; those of `unnamed` are unknown, unless they touch a named one.

    evidence: (N,) the probability of any defect.
    """
    best, unknown = probabilities.argmax(axis=1), len(thresholds.classes)
    best[unnamed] = unknown
    _name_neighbours(best, defect, unnamed, cells)
    sure = np.where(best == unknown, np.minimum(evidence, np.float32(1)), probabilities.max(axis=1))
    regions = _joined(best, sure, defect, boxes, cells, (*thresholds.classes, UNKNOWN), anomaly)
    at = {_box(row): place for place, row in enumerate(boxes)}
    return tuple(
        replace(region, candidates=_likely(probabilities[at[region.peak_px]], thresholds.classes))
        if region.class_name == UNKNOWN and region.peak_px is not None
        else region
        for region in regions
    )


def _likely(row: Float32s, names: Sequence[str]) -> Candidates:
    order = np.argsort(-row, kind="stable")[:MAX_CANDIDATES]
    return tuple((names[i], round(float(row[i]), 4)) for i in order)


def _name_neighbours(best: Indices, defect: Bools, unnamed: Bools, cells: Ints) -> None:
    """Give each tile without a class the class of a tile that it touches, outwards from the named tiles; in place."""
    index_at = {(int(cells[i, 0]), int(cells[i, 1])): int(i) for i in np.flatnonzero(unnamed)}
    front = [int(i) for i in np.flatnonzero(defect & ~unnamed)]
    while front and index_at:
        row, column = (int(v) for v in cells[front[0]])
        for neighbour in [(row + dr, column + dc) for dr in (-1, 0, 1) for dc in (-1, 0, 1)]:
            index = index_at.pop(neighbour, None)
            if index is not None:
                best[index] = best[front[0]]
                front.append(index)
        front.pop(0)


def _joined(
    best: Indices,
    confidence: Float32s,
    defect: Bools,
    boxes: Ints,
    cells: Ints,
    names: Sequence[str],
    anomaly: Float32s | None = None,
) -> tuple[Region, ...]:
    """Join the defect tiles into regions, strongest first."""
    strength = confidence if anomaly is None else anomaly
    candidates = [
        _Candidate(
            Region(
                names[int(best[members[0]])],
                float(confidence[members].max()),
                _hull(boxes[members]),
                len(members),
                _box(boxes[members[int(strength[members].argmax())]]),
                None if anomaly is None else round(float(anomaly[members].max()), 3),
            ),
            frozenset((int(row), int(column)) for row, column in cells[members]),
        )
        for members in _components(best, defect, cells)
    ]
    candidates.sort(key=lambda candidate: (-candidate.region.confidence, candidate.region.box_px))
    return tuple(candidate.region for candidate in _without_absorbed(candidates))


@dataclass(frozen=True, slots=True)
class _Candidate:
    region: Region
    cells: frozenset[tuple[int, int]]


def _components(best: Indices, defect: Bools, cells: Ints) -> list[list[int]]:
    """Indices of defect tiles, grouped: tiles of one class that touch each other, corners included."""
    index_at = {(int(cells[i, 0]), int(cells[i, 1])): int(i) for i in np.flatnonzero(defect)}
    groups: list[list[int]] = []
    while index_at:
        cell, first = next(iter(index_at.items()))
        del index_at[cell]
        group, front = [first], [cell]
        while front:
            row, column = front.pop()
            for neighbour in [(row + dr, column + dc) for dr in (-1, 0, 1) for dc in (-1, 0, 1)]:
                index = index_at.get(neighbour)
                if index is not None and best[index] == best[first]:
                    del index_at[neighbour]
                    group.append(index)
                    front.append(neighbour)
        groups.append(group)
    return groups


def _without_absorbed(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """Drop a candidate that touches a stronger one if it lies mostly inside its box, or has no clear class.

    Such a candidate is the same defect, seen as another class. It must touch, because the box of a slanting scratch
    contains much surface without a scratch. The end of a defect in the next tile often looks like another class, but
    seldom with a high confidence.
    """
    kept: list[_Candidate] = []
    for candidate in candidates:
        box = candidate.region.box_px
        around = {(row + dr, column + dc) for row, column in candidate.cells for dr in (-1, 0, 1) for dc in (-1, 0, 1)}
        is_clear = candidate.region.confidence >= CLEAR_CONFIDENCE
        if not any(
            not around.isdisjoint(stronger.cells)
            and (not is_clear or overlap_px(box, stronger.region.box_px) >= ABSORBED_SHARE * box[2] * box[3])
            for stronger in kept
        ):
            kept.append(candidate)
    return kept


def _hull(boxes: Ints) -> Box:
    left, top = boxes[:, 0].min(), boxes[:, 1].min()
    right, bottom = (boxes[:, 0] + boxes[:, 2]).max(), (boxes[:, 1] + boxes[:, 3]).max()
    return int(left), int(top), int(right - left), int(bottom - top)


def _box(row: Ints) -> Box:
    x, y, w, h = row.tolist()
    return x, y, w, h


def _rows(boxes: Ints, chosen: Bools) -> tuple[Box, ...]:
    return tuple(_box(row) for row in boxes[chosen])
