"""What the labels say about the model: recall of each class and false alarms, with exact intervals.

Only tiles that were taken at random and labelled blind count for recall and for false alarms among tiles. The model
chose all others: it showed what it had found or was unsure about, so they say little of what it misses. A person who
has seen the guess also agrees with it too often.

Pure Python: the process that serves the page uses this module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, Final

from edge.evidence.labels import GOOD, UNCLEAR, Label, Origin

MORE: Final = 10
"""Labels that the advice is about."""
MIN_SHARE: Final = 0.005
"""A class with a smaller share of the random tiles needs so many of them that no number is named."""

Interval = Callable[[int, int], tuple[float, float]]
"""Bounds of a share, for k of n: `calibration.binomial.interval`."""
Thresholds = Mapping[str, Mapping[str, float]]
"""By camera and class."""


@dataclass(frozen=True, slots=True)
class ClassWorth:
    """One class.  labels: all that count.  blind: those of random tiles that nobody had seen the guess of.

    found: blind ones that the model calls a defect, of any class; for `good`: those that raise no alarm.
    named: those with the right class.  low, high: bounds of found, 95 %.  low_more, high_more: what they would be with
    ten more, at the same share.
    """

    name: str
    labels: int
    blind: int
    found: int
    named: int
    low: float
    high: float
    low_more: float
    high_more: float

    @property
    def gain(self) -> float:
        """How much narrower ten more labels make the interval."""
        return (self.high - self.low) - (self.high_more - self.low_more)


@dataclass(frozen=True, slots=True)
class Advice:
    """The class of which ten more labels narrow its interval most.

    random_tiles: how many random tiles hold about so many, at their share so far; None where that is not known.
    """

    name: str
    random_tiles: int | None


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """Of labelled defects, those that show defect-free surface.

    per_hour, low, high: their number an hour with bounds, 95 %, where the number of defects an hour is known.
    """

    defects: int
    false: int
    defects_per_hour: float | None
    per_hour: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Worth:
    """What the labels say.  left_out: blind labels of tiles that another model judged."""

    classes: tuple[ClassWorth, ...]
    advice: Advice | None
    false_alarms: FalseAlarms
    labels: int
    blind: int
    unclear: int
    left_out: int
    guess_right: int
    """Labels with a known guess that was right, among `guess_known`, however the picture was chosen."""
    guess_known: int
    by_thresholds: bool
    """Whether `found` is at the thresholds in use; else as inspection decided when the tile was taken."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def worth(
    labels: Sequence[Label],
    classes: Sequence[str],
    interval: Interval,
    *,
    thresholds: Thresholds | None = None,
    models: Mapping[str, str] | None = None,
    defects_per_hour: float | None = None,
) -> Worth:
    """Count what the labels say.

    classes: of the model; labels of other classes are appended.  thresholds: those in use; without them a tile is found
    when inspection called it a defect.  models: what judges now, by camera, as `Origin.model`; blind labels of tiles
    that another model or other taught classes judged are left out.  defects_per_hour: defects in the archive for each
    hour that it covers.
    """
    clear = [one for one in labels if one.label != UNCLEAR]
    all_blind = [one for one in clear if one.blind]
    blind = [one for one in all_blind if _is_of_now(one.origin, models or {})]
    names = list(dict.fromkeys((*classes, *sorted({one.label for one in clear} - {GOOD}), GOOD)))
    rows = tuple(_row(name, clear, blind, interval, thresholds) for name in names)
    guessed = [one for one in clear if one.origin.guess is not None]
    return Worth(
        rows,
        _advice([row for row in rows if row.name != GOOD], len(blind)),
        _false_alarms(clear, interval, defects_per_hour),
        labels=len(clear),
        blind=len(blind),
        unclear=len(labels) - len(clear),
        left_out=len(all_blind) - len(blind),
        guess_right=sum(one.label == one.origin.guess for one in guessed),
        guess_known=len(guessed),
        by_thresholds=thresholds is not None,
    )


def _is_of_now(origin: Origin, models: Mapping[str, str]) -> bool:
    """Whether what judges its camera now has judged this tile, as far as both are known."""
    return origin.model in (None, models.get(origin.camera, origin.model))


def is_found(origin: Origin, thresholds: Thresholds | None) -> bool:
    """Whether the model calls a tile a defect.

    An anomaly score decides alone, at its threshold of that time.  Without scores the verdict of that time counts.
    """
    limits = None if thresholds is None else thresholds.get(origin.camera)
    if origin.anomaly is not None:
        return origin.anomaly > 1.0
    limit = None if limits is None or origin.best is None else limits.get(origin.best)
    if limit is None or origin.confidence is None:
        return origin.decided not in (GOOD, "unsure")
    return origin.confidence >= limit


def _row(
    name: str, clear: Sequence[Label], blind: Sequence[Label], interval: Interval, thresholds: Thresholds | None
) -> ClassWorth:
    own = [one for one in blind if one.label == name]
    alarms = [one for one in own if is_found(one.origin, thresholds)]
    found = len(own) - len(alarms) if name == GOOD else len(alarms)
    named = found if name == GOOD else sum(name in (one.origin.best, one.origin.guess) for one in alarms)
    low, high = interval(found, len(own))
    more = len(own) + MORE
    low_more, high_more = interval(round(more * found / len(own)) if own else more, more)
    return ClassWorth(
        name, sum(one.label == name for one in clear), len(own), found, named, low, high, low_more, high_more
    )


def _advice(rows: Sequence[ClassWorth], blind: int) -> Advice | None:
    best = max(rows, key=lambda row: row.gain, default=None)
    if best is None or best.gain <= 0:
        return None
    share = best.blind / blind if blind else 0.0
    return Advice(best.name, ceil(MORE / share) if share >= MIN_SHARE else None)


def _false_alarms(clear: Sequence[Label], interval: Interval, per_hour: float | None) -> FalseAlarms:
    """Defects come to a person in random order; a grid shows one class only, and does not count."""
    own = [one for one in clear if one.origin.kind == "defect" and one.how == "single"]
    false = sum(one.label == GOOD for one in own)
    if per_hour is None or not own:
        return FalseAlarms(len(own), false, per_hour, None, None, None)
    low, high = interval(false, len(own))
    return FalseAlarms(len(own), false, per_hour, false / len(own) * per_hour, low * per_hour, high * per_hour)
