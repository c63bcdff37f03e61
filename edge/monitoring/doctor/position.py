"""Position on the strip: whether every camera has a scale, a direction and a speed."""

from __future__ import annotations

from collections.abc import Iterator

from edge import config
from edge.monitoring.doctor.finding import Finding


def findings(settings: config.Config) -> Iterator[Finding]:
    """What each camera lacks.  settings: with calibrations applied.  Nothing where no position is configured."""
    travel = settings.travel
    is_on = travel.speed_m_per_s is not None or travel.topic is not None
    for camera in settings.active_cameras:
        lacks = []
        if camera.scale is None:
            lacks.append("Run `defectd calibrate scale`, or set cameras.scale")
        if camera.direction is None:
            lacks.append("Set cameras.direction: where the strip moves to in the image")
        if is_on and lacks:
            yield Finding("position", "warning", f"{camera.name}: events have no position", "; ".join(lacks))
        elif camera.direction is not None and not is_on:
            remedy = "Set travel.topic, or travel.speed_m_per_s"
            says = f"{camera.name}: events have no position, because no speed is known"
            yield Finding("position", "warning", says, remedy)
        elif is_on:
            source = "a fixed speed" if travel.topic is None else travel.topic
            yield Finding("position", "ok", f"{camera.name}: from {source}")
