"""A first run that tells positions: generated strips say their own scale, direction and speed.

They are said by the source (`strip:?mm_per_px=0.25`) and not by keys of their own: keys would go before calibrations,
and would stay behind when a real camera takes the place of the strip.
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
    """With what generated strips know of themselves, where neither a person nor a calibration has said it.

    A strip with `mm_per_px` has that scale and runs up.  Where all cameras show such strips at one speed, that is
    the speed of the node's strip.
    """
    cameras = tuple(
        camera if (scale := _scale(camera)) is None else _with(camera, scale=scale, direction="up")
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
        return None  # another source, or a strip that will not open and will say why


def _speed_m_per_s(camera: config.Camera) -> float | None:
    """None of a strip that stands still or is not paced, too."""
    scale = _scale(camera)
    if scale is None:
        return None
    speed_px: int = parameters(camera.source.get_secret_value()).get("speed_px", SPEED_PX)
    fps = DEFAULT_FPS if camera.fps is None else camera.fps
    return speed_px * fps * scale.mm_per_px / 1000 or None


def _with(section: Section, **told: Any) -> Section:
    """With these values for keys that have none."""
    return section.model_copy(update={key: value for key, value in told.items() if getattr(section, key) is None})
