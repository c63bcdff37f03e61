"""Does a camera still look as it did when it was calibrated?  Compares its figures with those of good footage.

The figures of a few frames per second become means over ten seconds (parts); the median of the parts of some minutes is
compared with the reference. A false alarm is worse than a late one: a figure has drifted when its median lies outside
the range of single good frames by more than half of that range plus a share of its middle.
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

SAMPLE_NS: Final = NS_PER_S // 5
"""At most five frames per second are measured."""
PART_NS: Final = 10 * NS_PER_S
PART_FRAMES: Final = 10
"""A part is the mean of at least this many frames over at least ten seconds."""
MIN_PARTS: Final = 6
"""Minimum parts of a window: a shorter window_s is extended."""
CONFIRM: Final = 3
"""Medians in a row, one per part, that must lie outside for a drift to start, and inside for it to end."""
RANGE_SHARE: Final = 0.5
"""Share of the range of good frames that is slack on either side."""
SLACK: Final = {"brightness": 0.2, "sharpness": 0.1, "distance": 0.4}
"""Share of the middle of good frames that is added: light and texture differ between coils of one product."""
CLEAR_SHARE: Final = 0.5
"""Share of the slack within which a drift ends."""
MORE_UNSURE: Final = 0.1
"""Slack of the share of unsure frames, above the upper limit for good footage; or twice that limit, if more."""
ONLY_ABOVE: Final = frozenset({"distance", "unsure"})
"""Figures without a lower limit."""


def median_distance(features: Float32s, known: Features) -> float:
    """Distance of the median tile of one frame from good tiles, in standard deviations of a feature.

    features: (N, F) float32 of `Scores`, N >= 1.  Raises ValueError for another number of features.
    """
    return _median_distance(features, np.array(known.mean, np.float32), np.array(known.scale, np.float32))


def _median_distance(features: Float32s, mean: Float32s, scale: Float32s) -> float:
    z = (features - mean) / scale
    return float(np.median(np.sqrt(np.mean(z * z, axis=1))))


def features_of(tiles: Float32s, network: str) -> Features:
    """Mean and scale of the features of good tiles.  tiles: (N, F) float32, N >= 2.

    network: sha256 of the bundle's fp32 network.
    """
    scale = np.maximum(tiles.std(axis=0, dtype=np.float64), 1e-6)
    mean = tiles.mean(axis=0, dtype=np.float64)
    return Features(network=network, mean=tuple(map(_short, mean)), scale=tuple(map(_short, scale)))


def reference(
    stats: Sequence[ImageStats],
    made: Made,
    *,
    distances: Sequence[float] = (),
    features: Features | None = None,
    unsure: float | None = None,
) -> Reference:
    """Make a reference of good frames.

    stats: `image_stats` of the inspected part of each frame, at least one.  distances: `median_distance` of each frame
    by these features, or none.  unsure: share of unsure frames.
    """
    return Reference(
        brightness=spread([one.brightness for one in stats]),
        sharpness=spread([one.sharpness for one in stats]),
        distance=spread(distances) if features is not None else None,
        features=features,
        unsure=unsure,
        made=made,
    )


def spread(values: Sequence[float]) -> Spread:
    """Quantiles 1 %, 50 % and 99 % of at least one value."""
    low, middle, high = np.quantile(np.asarray(values, np.float64), (0.01, 0.5, 0.99))
    return Spread(low=_short(low), middle=_short(middle), high=_short(high))


def _short(value: float) -> float:
    """Rounded to six digits, because people read the file."""
    return float(f"{value:.6g}")


@dataclass(frozen=True, slots=True)
class Figures:
    """Measured on one frame.  None: unknown for this frame.  unsure: whether the frame had an unsure tile."""

    brightness: float
    sharpness: float
    distance: float | None = None
    unsure: bool | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """The calibrated range of a figure.  slack: on either side, before the figure has drifted."""

    low: float
    middle: float
    high: float
    slack: float

    def holds(self, value: float, share: float, *, only_above: bool) -> bool:
        """Whether a value lies within the range plus this share of the slack."""
        return value <= self.high + share * self.slack and (only_above or value >= self.low - share * self.slack)


@dataclass(slots=True)
class _Figure:
    """One figure over time.  now: median over the window; None before the window is full."""

    limits: Limits
    only_above: bool
    now: float | None = None
    drifted: bool = False
    _streak: int = 0

    def step(self, value: float) -> None:
        self.now = value
        holds = self.limits.holds(value, CLEAR_SHARE if self.drifted else 1.0, only_above=self.only_above)
        self._streak = self._streak + 1 if holds == self.drifted else 0
        if self._streak >= CONFIRM:
            self.drifted, self._streak = not self.drifted, 0

    def reset(self) -> None:
        self.now, self.drifted, self._streak = None, False, 0


@dataclass(frozen=True, slots=True)
class Change:
    """started: figures that drift from now on.  ended: no figure drifts any more."""

    started: tuple[str, ...] = ()
    ended: bool = False


class DriftDetector:
    """Compares one camera with its reference. Pure: the time is an argument. Keeps a few numbers per part."""

    def __init__(self, reference: Reference, window_s: float) -> None:
        """window_s: time over which the medians are taken, at least a minute."""
        self.reference = reference
        self.window_s = window_s
        self._figures = {name: _Figure(limits, name in ONLY_ABOVE) for name, limits in limits_of(reference).items()}
        known = reference.features
        self._good = None if known is None else (np.array(known.mean, np.float32), np.array(known.scale, np.float32))
        self._parts: deque[dict[str, float]] = deque(maxlen=max(MIN_PARTS, round(window_s * NS_PER_S / PART_NS)))
        self._sums: dict[str, tuple[float, int]] = {}
        self._frames = 0
        self._part_started_ns = 0
        self._sampled_ns: int | None = None

    def due(self, now_ns: int) -> bool:
        """Whether to measure this frame."""
        return self._sampled_ns is None or now_ns - self._sampled_ns >= SAMPLE_NS

    def distance(self, features: Float32s | None, network: str) -> float | None:
        """`median_distance` of a frame; None where the reference was made with another network.

        features: (N, F) float32.  network: sha256 of the bundle's fp32 network.
        """
        known = self.reference.features
        if self._good is None or features is None or known is None or known.network != network:
            return None
        return _median_distance(features, *self._good) if features.shape[1:] == self._good[0].shape else None

    def step(self, frame: Figures, now_ns: int) -> Change | None:
        """Add one good frame.  Returns a drift that started or ended with it."""
        if self._sampled_ns is None or now_ns - self._sampled_ns > self.window_s * NS_PER_S:
            self._restart()  # after a long pause the window fills again
        if not self._frames:
            self._part_started_ns = now_ns
        self._sampled_ns = now_ns
        self._frames += 1
        for name in self._figures:
            value = getattr(frame, name)
            if value is not None:
                total, count = self._sums.get(name, (0.0, 0))
                self._sums[name] = (total + float(value), count + 1)
        if now_ns - self._part_started_ns < PART_NS or self._frames < PART_FRAMES:
            return None
        self._parts.append({name: total / count for name, (total, count) in self._sums.items()})
        self._sums, self._frames = {}, 0
        return self._compare()

    def _compare(self) -> Change | None:
        if len(self._parts) < (self._parts.maxlen or 0):
            return None
        before = set(self.drifted)
        for name, figure in self._figures.items():
            values = [part[name] for part in self._parts if name in part]
            if 2 * len(values) > len(self._parts):
                figure.step(float(np.median(values)))
            else:
                figure.reset()  # unknown now: another network has other features
        started = tuple(name for name in self.drifted if name not in before)
        ended = bool(before) and not self.drifted
        return Change(started, ended) if started or ended else None

    def _restart(self) -> None:
        self._parts.clear()
        self._sums, self._frames = {}, 0

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the figures that drift."""
        return tuple(name for name, figure in self._figures.items() if figure.drifted)

    def figures(self) -> dict[str, dict[str, Any]]:
        """Each figure: its median now (None: not yet), the calibrated range, the limits.  Any thread may call it."""
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
    """The limits of each figure that the reference has."""
    found = {}
    for name, slack in SLACK.items():
        known = getattr(reference, name)
        if known is not None:
            slack_width = RANGE_SHARE * (known.high - known.low) + slack * abs(known.middle)
            found[name] = Limits(known.low, known.middle, known.high, slack_width)
    if reference.unsure is not None:
        upper = _upper_limit(reference.unsure, reference.made.frames)
        found["unsure"] = Limits(0.0, reference.unsure, upper, max(MORE_UNSURE, 2 * upper))
    return found


def _upper_limit(share: float, n: int) -> float:
    """Upper 99.5 % confidence limit of a share seen in n frames.  Source: Wilson 1927, score interval."""
    z2 = 2.576**2
    n = max(1, n)
    middle = share + z2 / (2 * n)
    return _short(min(1.0, (middle + math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n)))) / (1 + z2 / n)))
