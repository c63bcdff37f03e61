"""Defects since the coil that runs has started, counted from the events as they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

SEVERITIES: Final = ("minor", "major", "critical")


class DefectCounts:
    """Counts each defect once, when it opens.  Owned by one thread."""

    def __init__(self) -> None:
        self.by_severity: dict[str, int] = dict.fromkeys(SEVERITIES, 0)
        self.by_camera: dict[str, int] = {}
        self.since: str | None = None
        """When the coil started; None where no start was seen."""

    def add(self, payload: Mapping[str, Any]) -> None:
        """Add the next event, as published."""
        match payload.get("type"):
            case "coil.started":
                self._restart(payload.get("time"))
            case "coil.ended":
                self._restart(None)
            case "defect.opened":
                severity = (payload.get("defect") or {}).get("severity")
                self.by_severity[severity if severity in SEVERITIES else SEVERITIES[0]] += 1
                camera = str(payload.get("camera"))
                self.by_camera[camera] = self.by_camera.get(camera, 0) + 1

    def _restart(self, since: str | None) -> None:
        self.by_severity = dict.fromkeys(SEVERITIES, 0)
        self.by_camera = {}
        self.since = since
