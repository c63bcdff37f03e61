"""The rolls of the line, and which of them a repeated defect may come from: pure Python, no configuration."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

FITS_SHARE: Final = 0.005
"""A roll fits when its circumference differs from the period by no more than this share of it."""


@dataclass(frozen=True, slots=True)
class Roll:
    """One roll between two grindings.

    stretch: of the strip from this roll to the camera, 1.0 where it keeps its length.  surface: the side that it
    touches; None: both.  since, until: YYYY-MM-DD, both included; None: open.
    """

    name: str
    diameter_mm: float
    stretch: float = 1.0
    surface: str | None = None
    since: str | None = None
    until: str | None = None

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """A row of `rolls` in the configuration."""
        days = (None if row.get(key) is None else str(row[key]) for key in ("since", "until"))
        return cls(row["name"], row["diameter_mm"], row.get("stretch", 1.0), row.get("surface"), *days)

    @property
    def period_m(self) -> float:
        """Distance of its marks where the camera sees them."""
        return math.pi * self.diameter_mm / 1000.0 * self.stretch

    def was_in_use(self, day: str | None) -> bool:
        """Whether it turned on that day, YYYY-MM-DD; True where the day is unknown."""
        if day is None:
            return True
        return (self.since is None or self.since <= day) and (self.until is None or day <= self.until)


def fitting(rolls: Iterable[Roll], period_m: float, surface: str | None, day: str | None) -> tuple[str, ...]:
    """Names of all rolls that can have left marks at this distance on this side, the best fit first."""
    fits = []
    for roll in rolls:
        off = abs(period_m / roll.period_m - 1.0)
        is_side = surface is None or roll.surface in (None, surface)
        if off <= FITS_SHARE and is_side and roll.was_in_use(day):
            fits.append((off, roll.name))
    return tuple(dict.fromkeys(name for _, name in sorted(fits)))
