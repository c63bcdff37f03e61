"""Latency of the last hour, a point a minute, from the states that pass: what a page shows as soon as it is opened."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

MINUTES: Final = 60
_TO_THE_MINUTE: Final = len("2026-11-22T13:00")


@dataclass(frozen=True, slots=True)
class LatencyPoint:
    """The worst of one minute: of the camera whose 99 % line was nearest to its budget.  time: of the minute, UTC."""

    time: str
    p50_ms: float
    p99_ms: float
    budget_ms: float

    def as_json(self) -> dict[str, Any]:
        return {"time": self.time, "p50_ms": self.p50_ms, "p99_ms": self.p99_ms, "budget_ms": self.budget_ms}


class LatencyTrend:
    """Bounded.  Owned by one thread."""

    def __init__(self) -> None:
        self._points: deque[LatencyPoint] = deque(maxlen=MINUTES)

    def add(self, state: Mapping[str, Any]) -> None:
        """Take in a state object (`edge/schema/api-state-1.json`)."""
        measured = [
            camera
            for camera in state.get("cameras") or ()
            if camera.get("p99_ms") is not None and camera.get("budget_ms")
        ]
        if not measured:
            return
        worst = max(measured, key=lambda camera: float(camera["p99_ms"] / camera["budget_ms"]))
        minute = f"{state['time'][:_TO_THE_MINUTE]}:00.000Z"
        point = LatencyPoint(minute, worst["p50_ms"], worst["p99_ms"], worst["budget_ms"])
        if self._points and self._points[-1].time == minute:
            known = self._points.pop()
            point = max(known, point, key=lambda each: each.p99_ms / each.budget_ms)
        self._points.append(point)

    def points(self) -> list[LatencyPoint]:
        """Oldest first; minutes without a measurement are left out."""
        return list(self._points)
