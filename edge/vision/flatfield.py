"""Even light: a gain per pixel, smooth, that was measured on good surface; and whether the lamp still shines like that.

The map is one 16-bit PNG, a fraction of the frame's size, since light is smooth: gray 16,384 is a gain of 1.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from edge.errors import ConfigError, ImageError, Problem
from edge.frame import Float32s, Gray
from edge.host.clock import NS_PER_S
from edge.vision.tiles import Rectangle

log = logging.getLogger(__name__)

UNIT: Final = 16_384
FACTOR: Final = 8
"""The map is so many times smaller than the frame."""
LOOK_S: Final = 5.0
DRIFT: Final = 0.2
"""Change of the light between two places, against the calibration, that is worth a warning."""
SLOW: Final = 1 / 12
"""Share of each look in the average: about a minute."""
CELLS: Final = (16, 4)


@dataclass(slots=True, eq=False)
class Flatfield:
    """gain: (h, w) float32 over the whole frame."""

    gain: Float32s
    _looked_ns: int | None = None
    _seen: Float32s | None = None
    _told: bool = field(default=False)

    @classmethod
    def read(cls, path: Path) -> Flatfield:
        """Raises ConfigError when it is no map of gains."""
        try:
            raw = cv2.imdecode(np.frombuffer(path.read_bytes() or b"\0", np.uint8), cv2.IMREAD_UNCHANGED)
            why = "not a 16-bit gray PNG"
        except OSError as error:
            raw, why = None, str(error.strerror or error)
        if raw is None or raw.ndim != 2 or raw.dtype != np.uint16 or not raw.all():
            remedy = "Run `defectd calibrate flatfield`, or leave the key out"
            raise ConfigError("configuration", (Problem("cameras.flatfield", str(path), why, remedy),))
        return cls(np.asarray(raw / np.float32(UNIT), np.float32))

    def over(self, frame_shape: tuple[int, int], window: Rectangle, small: tuple[int, int]) -> Float32s:
        """(h, w) float32 for the shrunk window.  Raises ImageError for frames of another shape than was calibrated."""
        height, width = frame_shape
        if (round(height / FACTOR), round(width / FACTOR)) != self.gain.shape:
            h, w = self.gain.shape
            raise ImageError(f"{width}x{height} px: the flat field is for about {w * FACTOR}x{h * FACTOR} px")
        x, y, w, h = window
        whole = np.array([[width / self.gain.shape[1], 0, -x], [0, height / self.gain.shape[0], -y]], np.float64)
        shrunk = np.diag([small[0] / w, small[1] / h]) @ whole
        flags = cv2.INTER_LINEAR
        return np.asarray(
            cv2.warpAffine(self.gain, shrunk, small, flags=flags, borderMode=cv2.BORDER_REPLICATE), np.float32
        )

    def watch(self, window: Gray, gain: Float32s, now_ns: int) -> None:
        """Every few seconds compare the light with what was calibrated; tell when it has drifted, and when it is back.

        window: what is inspected of a frame.  gain: of the window, at any size.
        """
        if self._looked_ns is not None and now_ns - self._looked_ns < LOOK_S * NS_PER_S:
            return
        self._looked_ns = now_ns
        light = cells(window) * cv2.resize(gain, CELLS, interpolation=cv2.INTER_AREA)
        even = np.asarray(light / max(1.0, float(np.median(light))), np.float32)
        self._seen = even if self._seen is None else np.asarray(self._seen + SLOW * (even - self._seen), np.float32)
        drift = unevenness(self._seen)
        if (drift > DRIFT) != self._told:
            self._told = drift > DRIFT
            words = "has drifted: clean or replace it, or calibrate again" if self._told else "is as calibrated again"
            log.warning("the light differs by %.0f %% from side to side: the lamp %s", 100 * drift, words)


def cells(image: Gray) -> Float32s:
    """(4, 16) float32: mean gray of each part of the frame."""
    return np.asarray(cv2.resize(image, CELLS, interpolation=cv2.INTER_AREA), np.float32)


def unevenness(light: Float32s) -> float:
    """How far the brightest and darkest parts lie apart, of the middle; a few odd cells do not count."""
    low, middle, high = np.percentile(light, [5, 50, 95])
    return float((high - low) / max(1e-6, middle))
