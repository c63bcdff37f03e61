"""The width of the strip along it: one sample for each meter, or each second where the place is unknown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from edge.host.clock import NS_PER_S

MAX_VALUES: Final = 4096
"""Values in one sample: a strip that stands still adds no more."""
BACK_SHARE: Final = 0.8
"""A width that was out of its limits is in order again within this share of the tolerance."""
BACK_SAMPLES: Final = 2
"""Samples in a row that must be in order again."""


@dataclass(frozen=True, slots=True)
class WidthSample:
    """Median, least and most of the frames of one meter.  at_m: None where the place is unknown."""

    coil: str | None
    at_m: float | None
    median_mm: float
    least_mm: float
    most_mm: float


@dataclass(frozen=True, slots=True)
class WidthFigures:
    """Since the start of the coil.  mm."""

    last: float
    least: float
    most: float
    mean: float


class WidthCurve:
    """Collects the widths of single frames.  Owned by one thread."""

    def __init__(self) -> None:
        self._values: list[float] = []
        self._place: tuple[str | None, int | None] = (None, None)
        self._from_ns = 0
        self._coil: str | None = None
        self._sum = 0.0
        self._count = 0
        self.figures: WidthFigures | None = None
        """None before the first sample of a coil.  Any thread may read it."""

    def add(self, width_mm: float, coil: str | None, at_m: float | None, now_ns: int) -> WidthSample | None:
        """Add a frame.  Returns the sample that ended with it."""
        place = coil, None if at_m is None else math.floor(at_m)
        is_new = place != self._place or (at_m is None and now_ns - self._from_ns >= NS_PER_S)
        ended = self.end() if is_new else None
        if is_new:
            self._place, self._from_ns = place, now_ns
        if len(self._values) < MAX_VALUES:
            self._values.append(width_mm)
        return ended

    def end(self) -> WidthSample | None:
        """End the present sample; None where it has no frames."""
        values, self._values = sorted(self._values), []
        if not values:
            return None
        coil, meter = self._place
        median = values[len(values) // 2] if len(values) % 2 else sum(values[len(values) // 2 - 1 :][:2]) / 2
        sample = WidthSample(coil, None if meter is None else float(meter), median, values[0], values[-1])
        self._note(sample)
        return sample

    def _note(self, sample: WidthSample) -> None:
        known = self.figures
        if sample.coil != self._coil or known is None:
            self._coil, self._sum, self._count = sample.coil, 0.0, 0
            known = WidthFigures(sample.median_mm, math.inf, -math.inf, 0.0)
        self._sum += sample.median_mm
        self._count += 1
        least, most = min(known.least, sample.median_mm), max(known.most, sample.median_mm)
        self.figures = WidthFigures(sample.median_mm, least, most, self._sum / self._count)


class WidthLimits:
    """Whether the width is within its limits, with hysteresis.  Owned by one thread."""

    def __init__(self, nominal_mm: float, tolerance_mm: float) -> None:
        self.nominal_mm = nominal_mm
        self.tolerance_mm = tolerance_mm
        self.is_out = False
        self._fine = 0

    def check(self, median_mm: float) -> Literal["out", "restored"] | None:
        """Take the next sample.  Returns what changed with it."""
        off_mm = abs(median_mm - self.nominal_mm)
        if not self.is_out:
            self._fine = 0
            self.is_out = off_mm > self.tolerance_mm
            return "out" if self.is_out else None
        self._fine = self._fine + 1 if off_mm <= BACK_SHARE * self.tolerance_mm else 0
        if self._fine < BACK_SAMPLES:
            return None
        self.is_out = False
        return "restored"
