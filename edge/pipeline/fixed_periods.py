"""The distances along the strip at which faults of the inspection itself repeat: they are no marks of a roll."""

from __future__ import annotations

import math
from collections.abc import Iterable

from edge.pipeline.camera_session import CameraSession


def fixed_periods_m(sessions: Iterable[CameraSession], m_per_s: float | None) -> tuple[float, ...]:
    """Of each camera: the advance from frame to frame (dirt on the glass), and the pitch of its tiles.

    m_per_s: the speed of the strip; None: unknown.  Any thread.
    """
    periods = []
    for session in sessions:
        fps = session.counters.fps
        if m_per_s and fps:
            periods.append(m_per_s / fps)
        pitch_m = _tile_pitch_m(session)
        if pitch_m is not None:
            periods.append(pitch_m)
    return tuple(periods)


def _tile_pitch_m(session: CameraSession) -> float | None:
    """As `edge.vision.tiles` lays them: evenly, as few as the overlap allows."""
    camera, frame_px = session.camera, session.tracking.frame_px
    if camera.scale is None or camera.direction is None or frame_px is None:
        return None
    axis = 1 if camera.direction in ("up", "down") else 0
    length_px, roi = frame_px[axis], camera.roi
    if roi is not None:
        corners = [corner[axis] for corner in roi if isinstance(corner, tuple)]
        length_px = max(corners) - min(corners) if corners else roi[axis + 2]  # type: ignore[assignment]
    shared_px = camera.overlap * camera.tile_px
    count = math.ceil((length_px - shared_px) / (camera.tile_px - shared_px) - 1e-9)
    if count < 2:
        return None
    return (length_px - camera.tile_px) / (count - 1) * camera.scale.mm_per_px / 1000
