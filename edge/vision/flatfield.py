"""Flat-field correction: a gain per pixel that evens out the light, and a check that the lamp has not changed since.

The gains were measured on good surface. They are stored as one 16-bit PNG at a fraction of the frame's size, because
light is smooth; a gray level of 16,384 is a gain of 1.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from edge.errors import ConfigError, ImageError, Problem
from edge.frame import Float32s, Gray
from edge.host import regular_file
from edge.host.clock import NS_PER_S
from edge.vision.tiles import Rectangle

log = logging.getLogger(__name__)

MAX_BYTES: Final = 64 << 20
"""Of the file: a map is an eighth of its frame in each direction."""
UNIT: Final = 16_384
FACTOR: Final = 8
"""The map is smaller than the frame by this factor."""
CHECK_S: Final = 5.0
DRIFT: Final = 0.2
"""Change of the unevenness since the calibration that is worth a warning, as a share of the median."""
SLOW: Final = 1 / 12
"""Weight of each check in the running mean: about a minute."""
CELLS: Final = (16, 4)
"""Parts of the frame whose mean gray is compared: columns, rows."""


@dataclass(slots=True, eq=False)
class Flatfield:
    """gain: (h, w) float32, over the whole frame.  Owned by one thread."""

    gain: Float32s
    _checked_ns: int | None = None
    _mean_light: Float32s | None = None
    _has_drifted: bool = False

    @classmethod
    def read(cls, path: Path) -> Flatfield:
        """Read a map of gains.  Raises ConfigError."""
        try:
            content = regular_file.read(path, MAX_BYTES)
            raw = cv2.imdecode(np.frombuffer(content or b"\0", np.uint8), cv2.IMREAD_UNCHANGED)
            why = "not a 16-bit gray PNG"
        except OSError as error:
            raw, why = None, str(error.strerror or error)
        if raw is None or raw.ndim != 2 or raw.dtype != np.uint16 or not raw.all():
            remedy = "Run `defectd calibrate flatfield`, or leave the key out"
            raise ConfigError("configuration", (Problem("cameras.flatfield", str(path), why, remedy),))
        return cls(np.asarray(raw / np.float32(UNIT), np.float32))

    def over(self, frame_shape: tuple[int, int], window: Rectangle, small: tuple[int, int]) -> Float32s:
        """The gains of the shrunk window, (h, w) float32.

        frame_shape: height, width.  window: x y w h in the frame, px.  small: width, height of the shrunk window.
        Raises ImageError for another frame shape than was calibrated.
        """
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
        """Every few seconds compare the light with the calibration; log when it has drifted, and when it is back.

        window: the inspected part of a frame, uint8.  gain: of the window, at any size.
        """
        if self._checked_ns is not None and now_ns - self._checked_ns < CHECK_S * NS_PER_S:
            return
        self._checked_ns = now_ns
        light = cells(window) * cv2.resize(gain, CELLS, interpolation=cv2.INTER_AREA)
        even = np.asarray(light / max(1.0, float(np.median(light))), np.float32)
        mean = self._mean_light
        self._mean_light = even if mean is None else np.asarray(mean + SLOW * (even - mean), np.float32)
        drift = unevenness(self._mean_light)
        if (drift > DRIFT) != self._has_drifted:
            self._has_drifted = drift > DRIFT
            remedy = "has drifted: clean or replace it, or calibrate again"
            state = remedy if self._has_drifted else "is as calibrated again"
            log.warning("the light differs by %.0f %% from side to side: the lamp %s", 100 * drift, state)


def cells(image: Gray) -> Float32s:
    """Mean gray of each part of the frame, (4, 16) float32."""
    return np.asarray(cv2.resize(image, CELLS, interpolation=cv2.INTER_AREA), np.float32)


def unevenness(light: Float32s) -> float:
    """Difference between the brightest and the darkest parts, as a share of the median; outliers do not count."""
    low, middle, high = np.percentile(light, [5, 50, 95])
    return float((high - low) / max(1e-6, middle))
