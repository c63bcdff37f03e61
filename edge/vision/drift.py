"""Does a camera still look like what was calibrated? Its figures over minutes against those of good footage.

Figures of some frames of each second become means of ten seconds; the medians of minutes of these are compared. A false
alarm is worse than one that comes late: a figure has drifted when such a median has left the range that single good
frames had, and half of that range and a share of its middle besides.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edge.config.camera_calibration import Features, Made, Reference, Spread
from edge.frame import Float32s
from edge.host.clock import NS_PER_S
from edge.vision.image_quality import ImageStats

LOOK_NS: Final = NS_PER_S // 5
"""At most five frames a second are looked at."""
PART_NS: Final = 10 * NS_PER_S
PART_FRAMES: Final = 10
"""A part is the mean of at least so many frames over at least ten seconds."""
MIN_PARTS: Final = 6
"""Of a window: shorter ones are made longer, whatever their time."""
CONFIRM: Final = 3
"""Medians in a row, one a part, that must lie outside for a drift to begin, and inside for it to end."""
RANGE: Final = 0.5
"""Of the range of good frames: slack on either side."""
SLACK: Final = {"brightness": 0.2, "sharpness": 0.1, "distance": 0.4}
"""Of the middle of good frames, on top: between coils of one product light and texture differ, too."""
BACK: Final = 0.5
"""Of the slack: a drift ends where so much of it is left."""
MORE_UNSURE: Final = 0.1
"""Share of the frames on top of what good footage may have had, by its number of frames: or three times as many."""
ONLY_ABOVE: Final = frozenset({"distance", "unsure"})
"""Figures that cannot be too small."""


def median_distance(features: Float32s, known: Features) -> float:
    """How far the median tile of one frame lies from good ones, in standard deviations of a feature.

    features: (N, F) float32 of `Scores`, N >= 1.  Raises ValueError for another number of features.
    """
    return _median_distance(features, np.array(known.mean, np.float32), np.array(known.scale, np.float32))


def _median_distance(features: Float32s, mean: Float32s, scale: Float32s) -> float:
    off = (features - mean) / scale
    return float(np.median(np.sqrt(np.mean(off * off, axis=1))))


def features_of(tiles: Float32s, network: str) -> Features:
    """Mean and scale of the features of good tiles.  tiles: (N, F) float32, N >= 2.

    network: sha256 of the fp32 one.
    """
    scale = np.maximum(tiles.std(axis=0, dtype=np.float64), 1e-6)
    mean = tiles.mean(axis=0, dtype=np.float64)
    return Features(network=network, mean=tuple(map(_short, mean)), scale=tuple(map(_short, scale)))


def reference(
    sights: Sequence[ImageStats],
    made: Made,
    *,
    distances: Sequence[float] = (),
    features: Features | None = None,
    unsure: float | None = None,
) -> Reference:
    """From good frames to what is compared with.

    sights: `health.sight` of what is inspected of each frame, at least one.  distances: `median_distance` of each
    frame by these features, or none.  unsure: share of the frames.
    """
    return Reference(
        brightness=spread([one.brightness for one in sights]),
        sharpness=spread([one.sharpness for one in sights]),
        distance=spread(distances) if features is not None else None,
        features=features,
        unsure=unsure,
        made=made,
    )


def spread(values: Sequence[float]) -> Spread:
    """Quantiles of at least one value."""
    low, middle, high = np.quantile(np.asarray(values, np.float64), (0.01, 0.5, 0.99))
    return Spread(low=_short(low), middle=_short(middle), high=_short(high))


def _short(value: float) -> float:
    """Six digits: a file for people."""
    return float(f"{value:.6g}")


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one frame.  None: not known for this one.  unsure: whether something was in doubt."""

    brightness: float
    sharpness: float
    distance: float | None = None
    unsure: bool | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a figure is as calibrated.  slack: on either side, before it has drifted."""

    low: float
    middle: float
    high: float
    slack: float

    def holds(self, value: float, share: float, *, only_above: bool) -> bool:
        """Whether a value lies within, with this share of the slack."""
        return value <= self.high + share * self.slack and (only_above or value >= self.low - share * self.slack)


@dataclass(slots=True)
class _Figure:
    """One figure over time.  now: median over the window; None: not yet."""

    limits: Limits
    only_above: bool
    now: float | None = None
    drifted: bool = False
    _streak: int = 0

    def step(self, value: float) -> None:
        self.now = value
        holds = self.limits.holds(value, BACK if self.drifted else 1.0, only_above=self.only_above)
        self._streak = self._streak + 1 if holds == self.drifted else 0
        if self._streak >= CONFIRM:
            self.drifted, self._streak = not self.drifted, 0

    def forget(self) -> None:
        self.now, self.drifted, self._streak = None, False, 0


@dataclass(frozen=True, slots=True)
class Change:
    """began: figures that have drifted from now on.  ended: nothing is drifted any more."""

    began: tuple[str, ...] = ()
    ended: bool = False


class Watch:
    """Compares one camera with its reference. Pure: the time is an argument. Keeps a few numbers per ten seconds."""

    def __init__(self, reference: Reference, window_s: float) -> None:
        """window_s: over which medians are taken, a minute at least."""
        self.reference = reference
        self.window_s = window_s
        self._figures = {name: _Figure(limits, name in ONLY_ABOVE) for name, limits in limits_of(reference).items()}
        known = reference.features
        self._known = None if known is None else (np.array(known.mean, np.float32), np.array(known.scale, np.float32))
        self._parts: deque[dict[str, float]] = deque(maxlen=max(MIN_PARTS, round(window_s * NS_PER_S / PART_NS)))
        self._sums: dict[str, tuple[float, int]] = {}
        self._frames = 0
        self._part_from_ns = 0
        self._looked_ns: int | None = None

    def due(self, now_ns: int) -> bool:
        """Whether this frame is to be looked at."""
        return self._looked_ns is None or now_ns - self._looked_ns >= LOOK_NS

    def distance(self, features: Float32s | None, network: str) -> float | None:
        """Of the median tile of a frame; None where the reference was made with another network.

        features: (N, F) float32.  network: sha256 of the bundle's fp32 one.
        """
        known = self.reference.features
        if self._known is None or features is None or known is None or known.network != network:
            return None
        return _median_distance(features, *self._known) if features.shape[1:] == self._known[0].shape else None

    def step(self, frame: Figures, now_ns: int) -> Change | None:
        """Take in one good frame.  Returns what began or ended with it."""
        if self._looked_ns is None or now_ns - self._looked_ns > self.window_s * NS_PER_S:
            self._forget()  # after a long rest minutes are gathered anew
        if not self._frames:
            self._part_from_ns = now_ns
        self._looked_ns = now_ns
        self._frames += 1
        for name in self._figures:
            value = getattr(frame, name)
            if value is not None:
                total, count = self._sums.get(name, (0.0, 0))
                self._sums[name] = (total + float(value), count + 1)
        if now_ns - self._part_from_ns < PART_NS or self._frames < PART_FRAMES:
            return None
        self._parts.append({name: total / count for name, (total, count) in self._sums.items()})
        self._sums, self._frames = {}, 0
        return self._judge()

    def _judge(self) -> Change | None:
        if len(self._parts) < (self._parts.maxlen or 0):
            return None
        before = set(self.drifted)
        for name, figure in self._figures.items():
            values = [part[name] for part in self._parts if name in part]
            if 2 * len(values) > len(self._parts):
                figure.step(float(np.median(values)))
            else:
                figure.forget()  # another network sees other features
        began = tuple(name for name in self.drifted if name not in before)
        ended = bool(before) and not self.drifted
        return Change(began, ended) if began or ended else None

    def _forget(self) -> None:
        self._parts.clear()
        self._sums, self._frames = {}, 0

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the figures that are not as calibrated."""
        return tuple(name for name, figure in self._figures.items() if figure.drifted)

    def figures(self) -> dict[str, dict[str, Any]]:
        """Each figure: its median now (None: not yet), and what good frames had; any thread may ask."""
        return {
            name: {
                "now": None if figure.now is None else _short(figure.now),
                "calibrated": [figure.limits.low, figure.limits.middle, figure.limits.high],
                "limits": [
                    None if figure.only_above else _short(figure.limits.low - figure.limits.slack),
                    _short(figure.limits.high + figure.limits.slack),
                ],
                "drifted": figure.drifted,
            }
            for name, figure in self._figures.items()
        }


def limits_of(reference: Reference) -> dict[str, Limits]:
    """How far each figure may go, of those that the reference has."""
    found = {}
    for name, slack in SLACK.items():
        known = getattr(reference, name)
        if known is not None:
            wide = RANGE * (known.high - known.low) + slack * abs(known.middle)
            found[name] = Limits(known.low, known.middle, known.high, wide)
    if reference.unsure is not None:
        most = _most(reference.unsure, reference.made.frames)
        found["unsure"] = Limits(0.0, reference.unsure, most, max(MORE_UNSURE, 2 * most))
    return found


def _most(share: float, n: int) -> float:
    """The share that stands behind one seen in n frames, at most, with 99.5 %.  Source: Wilson 1927, score interval."""
    z2 = 2.576**2
    n = max(1, n)
    middle = share + z2 / (2 * n)
    return _short(min(1.0, (middle + math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n)))) / (1 + z2 / n)))
