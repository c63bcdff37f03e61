"""Scale, direction, side and speed of generated strips, so that a first run reports positions.

The source states them (`strip:?mm_per_px=0.25`), not keys of their own: such keys would override calibrations, and
would stay behind when a real camera replaces the strip.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError

from edge import config
from edge.camera.sources.contract import DEFAULT_FPS
from edge.camera.sources.simulator import SPEED_PX, parameters
from edge.errors import CameraError

Section = TypeVar("Section", config.Camera, config.Travel)


def described(settings: config.Config) -> config.Config:
    """Fill in what generated strips know about themselves, for keys that neither file nor calibration sets.

    A strip with `mm_per_px` has that scale and runs up; its operator side is the left edge of the picture.  If all
    cameras show such strips at the same speed, that is the speed of the node's strip.
    """
    cameras = tuple(
        camera
        if (scale := _scale(camera)) is None
        else _with(
            camera,
            scale=scale,
            direction="up",
            surface="top",
            operator_side="left",
            across_at_mm=_across_at_mm(camera, scale),
        )
        for camera in settings.cameras
    )
    travel, speeds = settings.travel, {_speed_m_per_s(camera) for camera in settings.active_cameras}
    if travel.topic is None and len(speeds) == 1:
        travel = _with(travel, speed_m_per_s=speeds.pop())
    return settings.model_copy(update={"cameras": cameras, "travel": travel})


def _scale(camera: config.Camera) -> config.Scale | None:
    try:
        return config.Scale(mm_per_px=parameters(camera.source.get_secret_value())["mm_per_px"])
    except (CameraError, KeyError, ValidationError):
        return None  # another source, or a strip that will not open and will report the reason


def _across_at_mm(camera: config.Camera, scale: config.Scale) -> float:
    """Where its picture starts on the strip."""
    x_px: int = parameters(camera.source.get_secret_value()).get("x_px", 0)
    return round(x_px * scale.mm_per_px, 3)


def _speed_m_per_s(camera: config.Camera) -> float | None:
    """None also for a strip that stands still or is not paced."""
    scale = _scale(camera)
    if scale is None:
        return None
    speed_px: int = parameters(camera.source.get_secret_value()).get("speed_px", SPEED_PX)
    fps = DEFAULT_FPS if camera.fps is None else camera.fps
    return speed_px * fps * scale.mm_per_px / 1000 or None


def _with(section: Section, **values: Any) -> Section:
    """The section with these values for keys that have none."""
    return section.model_copy(update={key: value for key, value in values.items() if getattr(section, key) is None})
