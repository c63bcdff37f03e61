"""Temperature and per-class thresholds from labelled tiles, with their recall and false alarms.

All reported figures are cross-validated: each half of the pictures is measured with what was fitted on the other half.
The values that are kept are fitted on all pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, log
from typing import Final

import numpy as np
import numpy.typing as npt

from edge.calibration import binomial
from edge.config.calibration import ClassPoint, Reliability
from edge.errors import CalibrationError
from edge.frame import Float64s, Gray
from edge.model.classifier import Classifier, Scores
from edge.vision.taught_classes import TaughtClasses

MIN_PICTURES: Final = 10
"""Of a class."""
RECALL: Final = 0.95
"""Of each class, by default."""
TEMPERATURES: Final = (0.05, 20.0)
PLAUSIBLE: Final = (0.1, 10.0)
"""Temperatures outside are not used: where the model is right on every picture, the smallest one is always the most
probable."""
BINS: Final = 15
"""Of the calibration error, as in the model's report."""
MAX_THRESHOLD: Final = 0.999

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sample:
    """Scores of labelled tiles.

    scores: of N tiles.  labels: (N,) class numbers; the number of classes stands for defect-free.  half: (N,) 0 or 1.
    fits_temperature: (N,) bool; False for tiles of whole frames, which only count as defect-free surface.
    """

    scores: Scores
    labels: Ints
    half: Ints
    fits_temperature: npt.NDArray[np.bool_]

    def part(self, chosen: npt.NDArray[np.bool_]) -> Sample:
        good = None if self.scores.good is None else self.scores.good[chosen]
        scores = Scores(self.scores.logits[chosen], self.scores.features[chosen], good)
        return Sample(scores, self.labels[chosen], self.half[chosen], self.fits_temperature[chosen])

    @property
    def classes(self) -> int:
        return int(self.scores.logits.shape[1])


@dataclass(frozen=True, slots=True)
class WorkingPoint:
    """What the thresholds are set for.  recall: minimum of each class.

    rate: maximum of false alarms per defect-free tile; it replaces the recall.
    """

    recall: float = RECALL
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Fit:
    """thresholds: (classes,) probabilities; NaN: the class had no pictures and keeps its threshold."""

    temperature: float
    thresholds: Float64s


@dataclass(frozen=True, slots=True)
class Result:
    """The values that are kept, and their effect on pictures that they were not fitted on.

    defect_free: tiles without a defect.  alarms: those above a threshold.
    """

    fit: Fit
    points: tuple[ClassPoint, ...]
    defect_free: int
    alarms: int
    reliability: Reliability
    helps: bool
    """Whether the fitted temperature describes unseen pictures better than the bundle's."""

    @property
    def thresholds(self) -> dict[str, float]:
        """Thresholds of the classes that were calibrated."""
        return {one.name: one.level for one in self.points if one.level is not None}


class TileScorer:
    """Scores tiles in batches as they arrive."""

    def __init__(self, network: Classifier, taught: TaughtClasses | None = None) -> None:
        """taught: the classes that name a defect; None: the network's own."""
        self._network = network
        self._taught = taught
        self._good = len(network.card.classes if taught is None else taught.names)
        self._waiting: list[Gray] = []
        self._scores: list[Scores] = []
        self._half: list[int] = []
        self.labels: list[int] = []
        self.pictures = 0
        """Pictures with a label of their own; the tiles after them come from whole frames."""

    def add(self, tile: Gray, label: int) -> None:
        """Add a labelled picture.  tile: (side, side) uint8."""
        self._take(tile[None], label)
        self.pictures += 1

    def add_frame(self, tiles: Gray, half: int) -> int:
        """Add all tiles of a defect-free frame.  tiles: (N, side, side) uint8, copied.  Returns N."""
        if not self._half:
            self._half = halves(self.labels).tolist()
        self._take(tiles.copy(), self._good)
        self._half += [half] * len(tiles)
        return len(tiles)

    def _take(self, tiles: Gray, label: int) -> None:
        self._waiting += list(tiles)
        self.labels += [label] * len(tiles)
        if len(self._waiting) >= self._network.batch:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            scores = self._network.score(np.stack(self._waiting))
            self._scores.append(scores if self._taught is None else self._taught.applied(scores))
            self._waiting = []

    def sample(self) -> Sample:
        """Everything that was added."""
        self._flush()
        labels = np.array(self.labels, np.int64)
        half = np.array(self._half, np.int64) if self._half else halves(self.labels)
        return Sample(Scores.joined(self._scores), labels, half, np.arange(len(labels)) < self.pictures)


def halves(labels: Sequence[int]) -> Ints:
    """0 for the first half of each class in order, 1 for the second: neighbours often show one place."""
    numbers = np.asarray(labels, np.int64)
    half = np.zeros(len(numbers), np.int64)
    for label in np.unique(numbers):
        at = np.flatnonzero(numbers == label)
        half[at[len(at) // 2 :]] = 1
    return half


def calibrate(
    sample: Sample,
    target: WorkingPoint,
    *,
    names: Sequence[str],
    temperature: float,
    unsure: float,
    thresholds: Sequence[float],
    sharpness: float = 1.0,
) -> Result:
    """Fit on all pictures, and measure by cross-validation.

    temperature, thresholds: those in use before.  unsure: lower limit of a threshold.  sharpness: of the published
    confidence before (`edge.model.sharpness`); a temperature that is kept replaces it.
    Raises CalibrationError when there are too few defect-free tiles for the rate of the working point.
    """
    before = np.asarray(thresholds, np.float64)
    defect_free = int((sample.labels == sample.classes).sum())
    if target.rate is not None:
        allowed_alarms(target.rate, defect_free)
    training = [sample.part(sample.half != half) for half in (0, 1)]
    folds = [(train, fit_temperature(train), sample.part(sample.half == half)) for half, train in enumerate(training)]
    tests = [(test.part(test.fits_temperature), fitted) for _, fitted, test in folds]
    published = temperature / sharpness
    loss_before = np.concatenate([losses(test, published) for test, _ in tests])
    loss_after = np.concatenate([losses(test, fitted) for test, fitted in tests])
    is_plausible = all(PLAUSIBLE[0] < fitted < PLAUSIBLE[1] for _, fitted, _ in folds)
    helps = is_plausible and bool(len(loss_before)) and float(loss_after.mean()) < float(loss_before.mean())
    counts = np.zeros((3, sample.classes), np.int64)
    alarms = np.zeros(sample.classes, np.int64)
    confidences: dict[str, list[Float64s]] = {"before": [], "after": [], "right": []}
    for train, fitted, test in folds:
        in_use = fitted if helps else temperature
        chosen = choose(train, in_use, target, unsure=unsure, before=before)
        p = test.scores.probabilities(in_use).astype(np.float64)
        fold_counts, fold_alarms = outcome(p, test.labels, np.where(np.isnan(chosen), before, chosen))
        counts += fold_counts
        alarms += fold_alarms
        labelled = test.part(test.fits_temperature)
        for key, degrees in (("before", published), ("after", fitted if helps else published)):
            confidence, right = _confidence(labelled, degrees)
            confidences[key].append(confidence)
        confidences["right"].append(right)
    final = fit_temperature(sample) if helps else temperature
    chosen = choose(sample, final, target, unsure=unsure, before=before)
    is_right = np.concatenate(confidences["right"])
    reliability = Reliability(
        before=round(calibration_error(np.concatenate(confidences["before"]), is_right), 5),
        after=round(calibration_error(np.concatenate(confidences["after"]), is_right), 5),
        n=len(is_right),
    )
    points = tuple(
        ClassPoint(
            name=name,
            before=round(float(before[i]), 4),
            level=None if np.isnan(chosen[i]) else round(float(chosen[i]), 4),
            n=int(counts[0, i]),
            found=int(counts[1, i]),
            named=int(counts[2, i]),
            alarms=int(alarms[i]),
        )
        for i, name in enumerate(names)
    )
    return Result(Fit(final, chosen), points, defect_free, int(alarms.sum()), reliability, helps)


def allowed_alarms(rate: float, tiles: int) -> int:
    """The most false alarms among this many defect-free tiles that still show a long-run rate of at most `rate`.

    With 95 % confidence, if the tiles are independent and like future tiles.  Raises CalibrationError when even zero
    alarms would not show it.
    """
    if binomial.upper(0, tiles) > rate:
        needed = ceil(log(0.05) / np.log1p(-rate))
        raise CalibrationError(
            f"{tiles} defect-free tiles cannot show a rate of {rate:.2g} false alarms per tile: without an alarm among "
            f"them, {binomial.upper(0, tiles):.2g} is still possible. Give {needed} or more with --good, allow more "
            "false alarms, or use `defectd calibrate normal`, which extrapolates the tail"
        )
    low, high = 0, tiles
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if binomial.upper(middle, tiles) <= rate else (low, middle - 1)
    return low


# ---- temperature --------------------------------------------------------------------------------------


def fit_temperature(sample: Sample) -> float:
    """The temperature that makes the labels most probable.  Source: Guo et al., ICML 2017, section 4.2."""
    part = sample.part(sample.fits_temperature)
    low, high = (log(value) for value in TEMPERATURES)
    golden = (5**0.5 - 1) / 2

    def loss(at: float) -> float:
        return float(losses(part, float(np.exp(at))).mean())

    left, right = high - golden * (high - low), low + golden * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(60):
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - golden * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + golden * (high - low)
            at_right = loss(right)
    return round(float(np.exp((low + high) / 2)), 4)


def losses(sample: Sample, temperature: float) -> Float64s:
    """(N,) negative log-likelihood of the labels.  Without a `good` output, defect-free tiles have none: left out."""
    logits, labels = sample.scores.logits.astype(np.float64), sample.labels
    if sample.scores.good is not None:
        logits = np.concatenate((logits, sample.scores.good.astype(np.float64)), 1)
    else:
        keep = labels < sample.classes
        logits, labels = logits[keep], labels[keep]
    scaled = logits / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    return np.asarray(np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(len(labels)), labels], np.float64)


def _confidence(sample: Sample, temperature: float) -> tuple[Float64s, Float64s]:
    """(N,) probability of the most probable class, `good` included, and whether that class is right."""
    p = sample.scores.probabilities(temperature).astype(np.float64)
    labels = sample.labels
    if sample.scores.good is not None:
        p = np.concatenate((p, np.clip(1 - p.sum(axis=1, keepdims=True), 0, 1)), 1)
    else:
        keep = labels < sample.classes
        p, labels = p[keep], labels[keep]
    return p.max(axis=1), (p.argmax(axis=1) == labels).astype(np.float64)


def calibration_error(confidence: Float64s, right: Float64s) -> float:
    """Expected calibration error (ECE), bins of equal width, 0 to 1.  Source: Guo et al., ICML 2017, section 2."""
    place = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    total = sum(
        (place == i).sum() * abs(confidence[place == i].mean() - right[place == i].mean()) for i in np.unique(place)
    )
    return float(total / len(confidence)) if len(confidence) else 0.0


# ---- thresholds ----------------------------------------------------------------------------------------


def choose(sample: Sample, temperature: float, target: WorkingPoint, *, unsure: float, before: Float64s) -> Float64s:
    """A threshold for each class; see `Fit`."""
    p = sample.scores.probabilities(temperature).astype(np.float64)
    best, top = p.argmax(axis=1), p.max(axis=1)
    own, raised = list[Float64s](), list[Float64s]()
    for i in range(sample.classes):
        own.append(np.sort(np.where(best == i, top, 0.0)[sample.labels == i])[::-1])
        good = np.sort(top[(best == i) & (sample.labels == sample.classes)])[::-1]
        raised.append(good[good >= unsure])
    if target.rate is None:
        return np.array([_for_recall(own[i], raised[i], target.recall, unsure) for i in range(sample.classes)])
    count = int((sample.labels == sample.classes).sum())
    allowed = allowed_alarms(target.rate, count) if count and binomial.upper(0, count) <= target.rate else 0
    return _for_rate(own, raised, allowed, unsure, before)


def _for_recall(own: Float64s, raised: Float64s, recall: float, unsure: float) -> float:
    """The highest threshold with this recall, lowered halfway to the next defect-free tile.

    That adds a margin and no false alarm.  own, raised: confidences of the class in its own pictures and in defect-free
    tiles, falling.
    """
    if not len(own):
        return float("nan")
    kept = float(own[max(1, ceil(recall * len(own) - 1e-9)) - 1])
    below = raised[raised < kept]
    floor = max(unsure, float(below[0]) if len(below) else unsure)
    return min(MAX_THRESHOLD, max(unsure, (kept + floor) / 2 if kept > floor else kept))


def _for_rate(
    own: Sequence[Float64s], raised: Sequence[Float64s], allowed: int, unsure: float, before: Float64s
) -> Float64s:
    """Above all defect-free tiles, then lowered past `allowed` of them, each time where it gains most pictures."""
    passed = [0] * len(own)

    def floor(i: int, count: int) -> float:
        return float(raised[i][count]) if count < len(raised[i]) else -1.0

    for _ in range(allowed):
        gains = [
            int((own[i] > floor(i, passed[i] + 1)).sum() - (own[i] > floor(i, passed[i])).sum())
            if passed[i] < len(raised[i])
            else 0
            for i in range(len(own))
        ]
        if max(gains, default=0) == 0:
            break
        passed[int(np.argmax(gains))] += 1
    return np.array([_above(own[i], floor(i, passed[i]), unsure, float(before[i])) for i in range(len(own))])


def _above(own: Float64s, raised: float, unsure: float, before: float) -> float:
    """Halfway between the most confident tile that must not raise an alarm and the least confident picture above it."""
    least = float(np.nextafter(np.float32(max(raised, 0.0)), np.float32(2)))
    if not len(own):
        return min(1.0, max(before, least))
    above = own[own > max(raised, unsure)]
    if not len(above):
        return min(1.0, max(unsure, least))
    base = max(raised, unsure)
    return max(unsure, min(float(above[-1]), max(least, (base + float(above[-1])) / 2)))


def outcome(p: Float64s, labels: Ints, thresholds: Float64s) -> tuple[Ints, Ints]:
    """Count pictures, those found as any defect and those named right, and false alarms on defect-free tiles.

    p: (N, classes).  Returns (3, classes) and (classes,).
    """
    classes = p.shape[1]
    best, top = p.argmax(axis=1), p.max(axis=1)
    defect = top >= thresholds[best]
    counts = np.zeros((3, classes), np.int64)
    for i in range(classes):
        own = labels == i
        counts[:, i] = own.sum(), (own & defect).sum(), (own & defect & (best == i)).sum()
    alarms = np.bincount(best[(labels == classes) & defect], minlength=classes)
    return counts, alarms.astype(np.int64)


def report(result: Result, temperature: float, per_hour: float | None) -> Iterator[str]:
    """The result for people, line by line.  temperature: the bundle's.  per_hour: tiles of the camera in an hour."""
    r = result.reliability
    if result.helps:
        yield (
            f"temperature {result.fit.temperature:g} in place of the bundle's {temperature:g}: "
            f"ECE {r.before:.1%} before, {r.after:.1%} after (n = {r.n})"
        )
    else:
        yield f"the bundle's temperature {temperature:g} stays: no other one is better on unseen pictures (n = {r.n})"
    for one in result.points:
        if one.level is None:
            yield f"{one.name:18} no pictures: keeps its threshold {one.before:g}"
            continue
        low, high = binomial.interval(one.found, one.n)
        recall = (
            f"{one.found} of {one.n} found [{low:.1%}, {high:.1%}], {one.named} named right" if one.n else "no pictures"
        )
        yield f"{one.name:18} {one.before:.3f} -> {one.level:.3f}: {recall}, {one.alarms} false alarms"
    if not result.defect_free:
        yield "no defect-free surface was given: the false alarms are unknown. Give a folder good, or --good"
        return
    low, high = binomial.interval(result.alarms, result.defect_free)
    share = result.alarms / result.defect_free
    counted = f"{result.alarms} of {result.defect_free} defect-free tiles"
    yield f"{counted} gave false alarms, {share:.2%} [{low:.2%}, {high:.2%}]"
    if per_hour is not None:
        yield (
            f"at this camera's {per_hour:,.0f} tiles an hour: {share * per_hour:,.0f} "
            f"[{low * per_hour:,.0f}, {high * per_hour:,.0f}] tile alarms an hour, before confirmation over frames"
        )
