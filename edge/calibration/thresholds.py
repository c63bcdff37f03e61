"""Temperature and per-class thresholds from labelled tiles, and what they cost: recall against false alarms.

Everything that is told is measured crosswise: each half of the pictures with what the other half gave. What is kept was
fitted on all of them.
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

LEAST: Final = 10
"""Pictures of a class."""
RECALL: Final = 0.95
"""Kept of each class when nothing is asked for."""
TEMPERATURES: Final = (0.05, 20.0)
BELIEVED: Final = (0.1, 10.0)
"""Where every picture is judged right, the smallest temperature is the most probable: that says nothing."""
BINS: Final = 15
"""As the model's report has them."""
MAX_LEVEL: Final = 0.999

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sample:
    """What the network says of labelled tiles.

    scores: of N.  labels: (N,) class numbers; as many as there are classes: sound.  half: (N,) 0 or 1.
    fits_temperature: (N,) bool; tiles of frames only count as sound surface.
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
class Wish:
    """The working point.  recall: at least, of each class.  rate: most false alarms per sound tile, in its place."""

    recall: float = RECALL
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Fit:
    """levels: (classes,), a probability each; NaN: that class had no pictures and keeps its threshold."""

    temperature: float
    levels: Float64s


@dataclass(frozen=True, slots=True)
class Found:
    """What is kept, and what it does on pictures that had no say in it."""

    fit: Fit
    points: tuple[ClassPoint, ...]
    sound: int
    alarms: int
    reliability: Reliability
    helps: bool
    """Whether another temperature than the bundle's describes unseen pictures better."""

    @property
    def levels(self) -> dict[str, float]:
        """Thresholds of the classes that were calibrated."""
        return {one.name: one.level for one in self.points if one.level is not None}


class Gathering:
    """Tiles as they come, scored in batches."""

    def __init__(self, network: Classifier) -> None:
        self._network = network
        self._waiting: list[Gray] = []
        self._scores: list[Scores] = []
        self._half: list[int] = []
        self.labels: list[int] = []
        self.pictures = 0
        """Labelled one by one; what comes after them are tiles of frames."""

    def add(self, tile: Gray, label: int) -> None:
        """One labelled picture.  tile: (side, side) uint8."""
        self._take(tile[None], label)
        self.pictures += 1

    def sound(self, tiles: Gray, half: int) -> int:
        """All tiles of a frame of sound surface; how many these are.  tiles: (N, side, side) uint8, copied."""
        if not self._half:
            self._half = halves(self.labels).tolist()
        self._take(tiles.copy(), len(self._network.card.classes))
        self._half += [half] * len(tiles)
        return len(tiles)

    def _take(self, tiles: Gray, label: int) -> None:
        self._waiting += list(tiles)
        self.labels += [label] * len(tiles)
        if len(self._waiting) >= self._network.batch:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._scores.append(self._network.score(np.stack(self._waiting)))
            self._waiting = []

    def sample(self) -> Sample:
        self._flush()
        labels = np.array(self.labels, np.int64)
        half = np.array(self._half, np.int64) if self._half else halves(self.labels)
        return Sample(Scores.joined(self._scores), labels, half, np.arange(len(labels)) < self.pictures)


def halves(labels: Sequence[int]) -> Ints:
    """The first half of each class in order, then the second: neighbours are often pictures of one place."""
    given = np.asarray(labels, np.int64)
    half = np.zeros(len(given), np.int64)
    for label in np.unique(given):
        at = np.flatnonzero(given == label)
        half[at[len(at) // 2 :]] = 1
    return half


def calibrate(
    sample: Sample, wish: Wish, *, names: Sequence[str], temperature: float, unsure: float, levels: Sequence[float]
) -> Found:
    """Fit on all, measured crosswise.

    temperature, levels: those in use before.  unsure: no level falls below it.
    Raises CalibrationError when the sound tiles are too few for the rate that is asked for.
    """
    before = np.asarray(levels, np.float64)
    sound = int((sample.labels == sample.classes).sum())
    if wish.rate is not None:
        promised(wish.rate, sound)
    trained = [sample.part(sample.half != one) for one in (0, 1)]
    warm = [(train, fit_temperature(train), sample.part(sample.half == one)) for one, train in enumerate(trained)]
    known = [(test, test.fits_temperature) for _, _, test in warm]
    plain = np.concatenate([losses(test.part(fits), temperature) for test, fits in known])
    fitted = np.concatenate([losses(t.part(f), own) for (t, f), (_, own, _) in zip(known, warm, strict=True)])
    believed = all(BELIEVED[0] < own < BELIEVED[1] for _, own, _ in warm)
    helps = believed and bool(len(plain)) and float(fitted.mean()) < float(plain.mean())
    counts = np.zeros((3, sample.classes), np.int64)
    alarms = np.zeros(sample.classes, np.int64)
    sure: dict[str, list[npt.NDArray[np.float64]]] = {"before": [], "after": [], "right": []}
    for train, own, test in warm:
        degrees = own if helps else temperature
        level = choose(train, degrees, wish, unsure=unsure, before=before)
        p = test.scores.probabilities(degrees).astype(np.float64)
        one, raised = outcome(p, test.labels, np.where(np.isnan(level), before, level))
        counts += one
        alarms += raised
        fits = test.part(test.fits_temperature)
        for key, t in (("before", temperature), ("after", degrees)):
            confidence, right = _confidence(fits, t)
            sure[key].append(confidence)
        sure["right"].append(right)
    final = fit_temperature(sample) if helps else temperature
    chosen = choose(sample, final, wish, unsure=unsure, before=before)
    right_all = np.concatenate(sure["right"])
    reliability = Reliability(
        before=round(calibration_error(np.concatenate(sure["before"]), right_all), 5),
        after=round(calibration_error(np.concatenate(sure["after"]), right_all), 5),
        n=len(right_all),
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
    return Found(Fit(final, chosen), points, sound, int(alarms.sum()), reliability, helps)


def promised(rate: float, sound: int) -> int:
    """How many false alarms among so many sound tiles still show that there are no more than this in the long run.

    With 95 % confidence, if the tiles are independent and like those to come.  Raises CalibrationError when not even
    none would.
    """
    if binomial.upper(0, sound) > rate:
        needed = ceil(log(0.05) / np.log1p(-rate))
        raise CalibrationError(
            f"{sound} sound tiles cannot promise {rate:.2g} false alarms per tile: none among them still leaves "
            f"{binomial.upper(0, sound):.2g} possible. Give {needed} or more with --good, ask for more false alarms, "
            "or use `defectd calibrate normal`, which carries the tail further"
        )
    low, high = 0, sound
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if binomial.upper(middle, sound) <= rate else (low, middle - 1)
    return low


# ---- temperature --------------------------------------------------------------------------------------


def fit_temperature(sample: Sample) -> float:
    """What makes the labels most probable.  Source: Guo et al., ICML 2017, section 4.2."""
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
    """(N,) negative log-likelihood of the labels; without a good output sound tiles have none and are left out."""
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
    """Of the strongest answer, `good` included, and whether it is right."""
    p = sample.scores.probabilities(temperature).astype(np.float64)
    labels = sample.labels
    if sample.scores.good is not None:
        p = np.concatenate((p, np.clip(1 - p.sum(axis=1, keepdims=True), 0, 1)), 1)
    else:
        keep = labels < sample.classes
        p, labels = p[keep], labels[keep]
    return p.max(axis=1), (p.argmax(axis=1) == labels).astype(np.float64)


def calibration_error(confidence: Float64s, right: Float64s) -> float:
    """ECE in bins of equal width, 0 to 1.  Source: Guo et al., ICML 2017, section 2."""
    place = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    total = sum(
        (place == i).sum() * abs(confidence[place == i].mean() - right[place == i].mean()) for i in np.unique(place)
    )
    return float(total / len(confidence)) if len(confidence) else 0.0


# ---- thresholds ----------------------------------------------------------------------------------------


def choose(sample: Sample, temperature: float, wish: Wish, *, unsure: float, before: Float64s) -> Float64s:
    """A level for each class; see `Fit`."""
    p = sample.scores.probabilities(temperature).astype(np.float64)
    best, top = p.argmax(axis=1), p.max(axis=1)
    own, sound = list[Float64s](), list[Float64s]()
    for i in range(sample.classes):
        own.append(np.sort(np.where(best == i, top, 0.0)[sample.labels == i])[::-1])
        raised = np.sort(top[(best == i) & (sample.labels == sample.classes)])[::-1]
        sound.append(raised[raised >= unsure])
    if wish.rate is None:
        return np.array([_for_recall(own[i], sound[i], wish.recall, unsure) for i in range(sample.classes)])
    count = int((sample.labels == sample.classes).sum())
    allowed = promised(wish.rate, count) if count and binomial.upper(0, count) <= wish.rate else 0
    return _for_rate(own, sound, allowed, unsure, before)


def _for_recall(own: Float64s, sound: Float64s, recall: float, unsure: float) -> float:
    """As high as the recall allows, then halfway down to the next sound tile: no false alarm more, and some margin."""
    if not len(own):
        return float("nan")
    kept = float(own[max(1, ceil(recall * len(own) - 1e-9)) - 1])
    below = sound[sound < kept]
    floor = max(unsure, float(below[0]) if len(below) else unsure)
    return min(MAX_LEVEL, max(unsure, (kept + floor) / 2 if kept > floor else kept))


def _for_rate(
    own: Sequence[Float64s], sound: Sequence[Float64s], allowed: int, unsure: float, before: Float64s
) -> Float64s:
    """Above all sound tiles, then lowered past so many of them, each time where it finds most."""
    passed = [0] * len(own)

    def floor(i: int, count: int) -> float:
        return float(sound[i][count]) if count < len(sound[i]) else -1.0

    for _ in range(allowed):
        gains = [
            int((own[i] > floor(i, passed[i] + 1)).sum() - (own[i] > floor(i, passed[i])).sum())
            if passed[i] < len(sound[i])
            else 0
            for i in range(len(own))
        ]
        if max(gains, default=0) == 0:
            break
        passed[int(np.argmax(gains))] += 1
    return np.array([_above(own[i], floor(i, passed[i]), unsure, float(before[i])) for i in range(len(own))])


def _above(own: Float64s, sound: float, unsure: float, before: float) -> float:
    """Between the strongest sound tile that shall not alarm and the weakest picture above it."""
    least = float(np.nextafter(np.float32(max(sound, 0.0)), np.float32(2)))
    if not len(own):
        return min(1.0, max(before, least))
    above = own[own > max(sound, unsure)]
    if not len(above):
        return min(1.0, max(unsure, least))
    base = max(sound, unsure)
    return max(unsure, min(float(above[-1]), max(least, (base + float(above[-1])) / 2)))


def outcome(p: Float64s, labels: Ints, levels: Float64s) -> tuple[Ints, Ints]:
    """(3, classes): pictures, found as any defect, found and named right; (classes,): false alarms on sound tiles."""
    classes = p.shape[1]
    best, top = p.argmax(axis=1), p.max(axis=1)
    defect = top >= levels[best]
    counts = np.zeros((3, classes), np.int64)
    for i in range(classes):
        mine = labels == i
        counts[:, i] = mine.sum(), (mine & defect).sum(), (mine & defect & (best == i)).sum()
    alarms = np.bincount(best[(labels == classes) & defect], minlength=classes)
    return counts, alarms.astype(np.int64)


def said(found: Found, temperature: float, per_hour: float | None) -> Iterator[str]:
    """What a person should know.  temperature: the bundle's.  per_hour: sound tiles an hour."""
    r = found.reliability
    if found.helps:
        yield (
            f"temperature {found.fit.temperature:g} in place of the bundle's {temperature:g}: "
            f"ECE {r.before:.1%} before, {r.after:.1%} after (n = {r.n})"
        )
    else:
        yield f"the bundle's temperature {temperature:g} stays: no other is shown to be better (n = {r.n})"
    for one in found.points:
        if one.level is None:
            yield f"{one.name:18} no pictures: keeps its threshold {one.before:g}"
            continue
        low, high = binomial.interval(one.found, one.n)
        recall = (
            f"{one.found} of {one.n} found [{low:.1%}, {high:.1%}], {one.named} named right" if one.n else "no pictures"
        )
        yield f"{one.name:18} {one.before:.3f} -> {one.level:.3f}: {recall}, {one.alarms} false alarms"
    if not found.sound:
        yield "no sound surface was given: what false alarms this makes is not known. Give a folder good, or --good"
        return
    low, high = binomial.interval(found.alarms, found.sound)
    share = found.alarms / found.sound
    yield f"{found.alarms} of {found.sound} sound tiles gave false alarms, {share:.2%} [{low:.2%}, {high:.2%}]"
    if per_hour is not None:
        yield (
            f"at this camera's {per_hour:,.0f} tiles an hour: {share * per_hour:,.0f} "
            f"[{low * per_hour:,.0f}, {high * per_hour:,.0f}] tile alarms an hour, before confirmation over frames"
        )
