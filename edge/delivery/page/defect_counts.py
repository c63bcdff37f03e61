"""Defects since the coil that runs has started, counted from the events as they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

SEVERITIES: Final = ("minor", "major", "critical")
MAX_OPEN: Final = 1000
"""Defects that are open at a time.  Of more, the oldest keep the severity with which they opened."""


class DefectCounts:
    """Counts each defect once, when it opens; one that is worse at its end counts as such.  Owned by one thread."""

    def __init__(self) -> None:
        self.by_severity: dict[str, int] = dict.fromkeys(SEVERITIES, 0)
        self.by_camera: dict[str, int] = {}
        self.since: str | None = None
        """When the coil started; None where no start was seen."""
        self._open: dict[str, str] = {}
        """Severity of the open ones, by track."""

    def add(self, payload: Mapping[str, Any]) -> None:
        """Add the next event, as published."""
        match payload.get("type"):
            case "coil.started":
                self._restart(payload.get("time"))
            case "coil.ended":
                self._restart(None)
            case "defect.opened":
                self._opened(payload)
            case "defect.closed":
                self._closed(payload.get("defect") or {})

    def _opened(self, payload: Mapping[str, Any]) -> None:
        defect = payload.get("defect") or {}
        severity, camera = _severity_of(defect), str(payload.get("camera"))
        self.by_severity[severity] += 1
        self.by_camera[camera] = self.by_camera.get(camera, 0) + 1
        self._open[str(defect.get("track_id"))] = severity
        if len(self._open) > MAX_OPEN:
            del self._open[next(iter(self._open))]

    def _closed(self, defect: Mapping[str, Any]) -> None:
        before, now = self._open.pop(str(defect.get("track_id")), None), _severity_of(defect)
        if before is not None and SEVERITIES.index(now) > SEVERITIES.index(before):
            self.by_severity[before] -= 1
            self.by_severity[now] += 1

    def _restart(self, since: str | None) -> None:
        self.by_severity = dict.fromkeys(SEVERITIES, 0)
        self.by_camera = {}
        self._open.clear()
        self.since = since


def _severity_of(defect: Mapping[str, Any]) -> str:
    severity = defect.get("severity")
    return severity if severity in SEVERITIES else SEVERITIES[0]
