"""Tries what a set-up would write: each camera is opened, with a picture of its tiles, and the broker is asked."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.host.redact import redact

if TYPE_CHECKING:
    from edge.camera.sources.contract import SourceInfo
    from edge.config import Config
    from edge.control.startup import Prepared
    from edge.frame import Frame
    from edge.monitoring.doctor.finding import Finding


@dataclass(frozen=True, slots=True)
class CameraTrial:
    """How one camera answers.  picture: with the borders of its tiles.  error: why it is of no use."""

    name: str
    actual: SourceInfo | None = None
    picture: Path | None = None
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        actual = self.actual
        return {
            "name": self.name,
            "width": None if actual is None else actual.width,
            "height": None if actual is None else actual.height,
            "fps": None if actual is None else actual.fps,
            "picture": None if self.picture is None else self.picture.name,
            "error": self.error or None,
        }


@dataclass(frozen=True, slots=True)
class Trial:
    """How cameras and broker answer."""

    cameras: tuple[CameraTrial, ...]
    broker: Finding

    @property
    def works(self) -> bool:
        return self.broker.grade != "fail" and not any(camera.error for camera in self.cameras)

    def as_json(self) -> dict[str, Any]:
        broker = {"grade": self.broker.grade, "says": redact(self.broker.says), "remedy": self.broker.remedy or None}
        return {"works": self.works, "cameras": [each.as_json() for each in self.cameras], "broker": broker}


def tried(settings: Config, picture_of: Callable[[str], Path], names: Collection[str] | None = None) -> Trial:
    """Open these cameras, and the broker.  names: None: all that are enabled.

    picture_of: where the picture of a camera goes.  Raises ConfigError, BundleError, OSError.
    """
    from edge.camera.probe import probe
    from edge.control.startup import prepare
    from edge.host.clock import SystemClock
    from edge.monitoring.doctor import broker

    clock = SystemClock()
    prepared = prepare(settings, clock)
    pictures: dict[str, Path] = {}

    def judge(frame: Frame) -> str | None:
        fault = prepared.picture_fault(frame)
        if fault is None:
            pictures[frame.camera] = picture_of(frame.camera)
            _save_tiles(pictures[frame.camera], frame, prepared)
        return fault

    chosen = [camera for camera in settings.active_cameras if names is None or camera.name in names]
    results = probe(chosen, clock, judge)
    cameras = (CameraTrial(name, one.actual, pictures.get(name), one.error) for name, one in results.items())
    return Trial(tuple(cameras), broker.finding(settings, clock))


def _save_tiles(path: Path, frame: Frame, prepared: Prepared) -> None:
    """Write the picture with the borders of its tiles, as the daemon would cut them."""
    import cv2
    import numpy as np

    from edge.vision.drawing import png

    session = next(each for each in prepared.sessions if each.name == frame.camera)
    canvas = cv2.cvtColor(frame.pixels, cv2.COLOR_GRAY2BGR)
    for x, y, w, h in session.inspector.prepare(frame.pixels, follow=False).boxes():
        cv2.rectangle(canvas, (int(x), int(y)), (int(x + w - 1), int(y + h - 1)), (230, 170, 60), 1)
    path.write_bytes(png(np.asarray(canvas, np.uint8)))
