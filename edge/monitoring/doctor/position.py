"""Position on the strip: whether all that it takes is there."""

from __future__ import annotations

from collections.abc import Iterator

from edge import config
from edge.monitoring.doctor.finding import Finding


def findings(settings: config.Config) -> Iterator[Finding]:
    """What each camera lacks.  settings: with what was calibrated.  Nothing where no position was asked for."""
    travel = settings.travel
    is_on = travel.speed_m_per_s is not None or travel.topic is not None
    for camera in settings.active_cameras:
        lacks = []
        if camera.scale is None:
            lacks.append("Run `defectd calibrate scale`, or set cameras.scale")
        if camera.direction is None:
            lacks.append("Set cameras.direction: where the strip runs to in the picture")
        if is_on and lacks:
            yield Finding("position", "warning", f"{camera.name}: no position is told", "; ".join(lacks))
        elif camera.direction is not None and not is_on:
            remedy = "Set travel.topic, or travel.speed_m_per_s"
            yield Finding("position", "warning", f"{camera.name}: no position is told, for want of a speed", remedy)
        elif is_on:
            source = "a fixed speed" if travel.topic is None else travel.topic
            yield Finding("position", "good", f"{camera.name}: from {source}")
