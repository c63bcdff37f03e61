"""The inspection loop as the daemon runs it, on frames from memory: what benchmarks measure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Final

import numpy as np
from pydantic import SecretStr

from edge import config, event
from edge.camera.notices import Notice
from edge.camera.sources.simulator import Strip
from edge.frame import Frame, Gray
from edge.host.clock import Clock
from edge.model.bundle import Bundle
from edge.model.classifier import Classifier
from edge.model.variant import NETWORKS
from edge.pipeline.camera_session import CameraSession
from edge.pipeline.histogram import Summary
from edge.pipeline.loop import InspectionLoop
from edge.pipeline.reporting import Picture, Subscribers
from edge.pipeline.scheduler import Head
from edge.vision.inspector import Inspector, PreparedFrame

LINE_SCAN_PX: Final = (1600, 256)
"""Width and height of a frame of a line-scan camera."""
MIN_PX: Final = 256
"""Smallest width and height of the generated strip."""
REPORT_S: Final = 3600.0
"""Longer than any benchmark: none of them measures a coverage report."""


class FramePath:
    """One camera in an inspection loop, with frames from memory, one after the other."""

    def __init__(self, classifier: Classifier, camera: config.Camera, frames: Sequence[Gray], clock: Clock) -> None:
        self.first = frames[0]
        self.images = cycle(frames)
        """The frames, over and over."""
        self.classifier = classifier
        self._camera = camera.name
        self._clock = clock
        self._number = 0
        self._session = CameraSession.of(camera, classifier, clock, live=False)
        self._loop = InspectionLoop([self._session], self, Subscribers(NoOutbox()), clock, report_s=REPORT_S)
        self._inspector = Inspector(camera, classifier, clock)
        self.tiles = self.prepare(self.first).tiles
        """Tiles of a frame."""

    def turn(self) -> None:
        """Inspect one frame, from the image check to the events."""
        self._loop.turn()

    def cut(self) -> Gray:
        """The tiles of the first frame, (N, side, side) uint8."""
        return self._inspector.cut(self.prepare(self.first)).copy()

    def prepare(self, image: Gray) -> PreparedFrame:
        """Lay the tiles of a frame, without the image check."""
        return self._inspector.prepare(image, follow=False)

    def missed(self) -> int:
        """Frames without a verdict: bad images."""
        frames: dict[str, int] = self._session.counters.account.total()["frames"]
        return sum(frames.values()) - frames["ok"] - frames["defect"] - frames["unsure"]

    # The cameras of the inspection loop: one frame, grabbed just now, is always waiting.

    def wait(self, timeout_s: float) -> bool:  # noqa: ARG002 (a frame is always waiting)
        return True

    def heads(self) -> tuple[Head, ...]:
        return ((self._camera, self._clock.monotonic_ns()),)

    def pop(self, name: str) -> Frame:
        self._number += 1
        return Frame(name, self._number, next(self.images), self._clock.monotonic_ns())

    def release(self, frame: Frame) -> None:
        """Nothing to release: the pixels are in no ring."""

    def take_notices(self) -> tuple[Notice, ...]:
        return ()


class NoOutbox:
    """Drops the events of a benchmark."""

    def put(self, event: event.Event, picture: Picture | None = None) -> None:
        """Drop the event."""


def generated_frames(width: int, height: int, *, count: int = 8, step: int = 1) -> list[Gray]:
    """Frames of the generated strip, (height, width) uint8.  step: from one frame number to the next."""
    strip = Strip(width=max(width, MIN_PX), height=max(height, MIN_PX))
    return [np.ascontiguousarray(strip.frame(n * step)[:height, :width]) for n in range(count)]


def default_camera(loaded: Bundle) -> config.Camera:
    """A camera with the tiles that the model was trained with."""
    return config.Camera(name="bench", source=SecretStr("strip:"), tile_px=loaded.card.tile_px)


def networks_of(loaded: Bundle) -> dict[str, str]:
    """Files of the networks of a bundle, by name: fp32, int8."""
    return {name: file for file, name in NETWORKS.items() if file in loaded.networks}


def summary_of(times_ns: Sequence[int], unit_ns: float) -> Summary:
    """Quantiles of measured durations, in units of unit_ns."""
    p50, p95, p99, p999 = (float(value) / unit_ns for value in np.percentile(times_ns, [50, 95, 99, 99.9]))
    return Summary(len(times_ns), p50, p95, p99, p999, max(times_ns) / unit_ns)
