"""The latency of the last hour, a point a minute: kept here, so that a page shows it when it is opened."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from edge.host.clock import NS_PER_S, Clock, stamp

STEP_S: Final = 60
POINTS: Final = 60
SCHEMA: Final = "defectd.api.trend/1"


@dataclass(slots=True)
class _Point:
    """Of one minute.  The worst camera counts, and of its states the worst."""

    minute: int
    p50_ms: float
    p99_ms: float


class Trend:
    """Owned by the loop of the page process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._points: deque[_Point] = deque(maxlen=POINTS)
        self._budget_ms: float | None = None

    def note(self, state: Mapping[str, Any]) -> None:
        """Take the figures of one state object; a camera without figures does not count."""
        cameras = state.get("cameras") or ()
        p50, p99, budgets = (
            [float(camera[key]) for camera in cameras if isinstance(camera.get(key), int | float)]
            for key in ("p50_ms", "p99_ms", "budget_ms")
        )
        self._budget_ms = min(budgets, default=None)
        if not p50 or not p99:
            return
        minute = self._clock.wall_ns() // (STEP_S * NS_PER_S)
        if self._points and self._points[-1].minute == minute:
            last = self._points[-1]
            last.p50_ms, last.p99_ms = max(last.p50_ms, *p50), max(last.p99_ms, *p99)
        else:
            self._points.append(_Point(minute, max(p50), max(p99)))

    def as_json(self) -> dict[str, Any]:
        """The points, the oldest first; minutes without a state are left out."""
        return {
            "schema": SCHEMA,
            "step_s": STEP_S,
            "time": [stamp(point.minute * STEP_S * NS_PER_S) for point in self._points],
            "p50_ms": [point.p50_ms for point in self._points],
            "p99_ms": [point.p99_ms for point in self._points],
            "budget_ms": self._budget_ms,
        }
