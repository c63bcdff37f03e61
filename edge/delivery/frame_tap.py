"""Frames for people who look: the inspection loop offers each frame with its verdict, the output `page` takes some.

A box belongs to the frame that it was found in, so both go together. While nobody looks, an offer costs one attribute
read; while somebody does, the loop copies the pixels of the frames that are due, and does nothing else with them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edge.coverage.accounting import FrameState
from edge.frame import Box, Gray
from edge.host.clock import NS_PER_S


@dataclass(frozen=True, slots=True)
class ShownRegion:
    """One region of a verdict.  track_id: None until its track is confirmed.  length_mm: along the strip."""

    class_name: str
    confidence: float
    box_px: Box
    track_id: str | None = None
    anomaly: float | None = None
    extent_px: Box | None = None
    length_mm: float | None = None
    severity: str = "minor"
    candidates: tuple[tuple[str, float], ...] = ()
    """What an `unknown` one looks like: class names with their probabilities, the most probable first."""


@dataclass(frozen=True, slots=True)
class ShownTiles:
    """What became of the tiles of one frame.  outside: beside the strip."""

    inspected: int = 0
    skipped: int = 0
    outside: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class ShownFrame:
    """A frame after its verdict.  pixels: (H, W) uint8; in an offer the loop's view, from `take` on a copy."""

    camera: str
    number: int
    grabbed_ns: int
    pixels: Gray
    state: FrameState
    """dropped: the camera is paused, or the node stops."""
    regions: tuple[ShownRegion, ...] = ()
    tiles: ShownTiles = ShownTiles()
    roi_px: Any = None
    """A rectangle, corners, or None for the whole frame."""
    position_m: float | None = None
    coil: str | None = None

    def with_pixels(self, pixels: Gray) -> ShownFrame:
        """The same frame with other memory under it."""
        return ShownFrame(
            self.camera,
            self.number,
            self.grabbed_ns,
            pixels,
            self.state,
            self.regions,
            self.tiles,
            self.roi_px,
            self.position_m,
            self.coil,
        )


class FrameTap:
    """One slot for each camera: the newest frame replaces one that nobody has taken."""

    def __init__(self) -> None:
        self.wanted: Mapping[str, float] = {}
        """Frames per second, by camera; empty: nobody looks.  Replaced as a whole, so that any thread may read it."""
        self._on_frame: Callable[[], None] = _ignore
        self._due_ns: dict[str, int] = {}
        self._slots: dict[str, ShownFrame] = {}
        self._lock = threading.Lock()

    def watch(self, wanted: Mapping[str, float], on_frame: Callable[[], None]) -> None:
        """Want these frames from now on.  on_frame: called by the inspection loop, must return at once."""
        self._on_frame = on_frame
        self.wanted = dict(wanted)
        with self._lock:
            self._slots = {camera: frame for camera, frame in self._slots.items() if camera in wanted}

    def take(self) -> tuple[ShownFrame, ...]:
        """The newest frame of each camera since the last call."""
        with self._lock:
            slots, self._slots = self._slots, {}
        return tuple(slots.values())

    # ---- the inspection loop -------------------------------------------------------------------------

    def is_due(self, camera: str, now_ns: int) -> bool:
        """Whether the next frame of this camera is to be offered."""
        fps = self.wanted.get(camera)
        return fps is not None and now_ns >= self._due_ns.get(camera, 0)

    def put(self, frame: ShownFrame, now_ns: int) -> None:
        """Copy a frame into its slot.  frame: its pixels are a view into the ring."""
        fps = self.wanted.get(frame.camera)
        if fps is None:
            return
        period_ns = int(NS_PER_S / fps)
        # In step with the time of the first one: at 30 frames a second, 10 wanted are every third, not every fourth.
        due_ns = self._due_ns.get(frame.camera, 0) + period_ns
        self._due_ns[frame.camera] = due_ns if now_ns - due_ns < period_ns else now_ns + period_ns
        copy = frame.with_pixels(frame.pixels.copy())
        with self._lock:
            self._slots[frame.camera] = copy
        self._on_frame()


def _ignore() -> None:
    """Nobody looks."""
