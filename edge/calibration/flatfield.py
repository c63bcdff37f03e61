"""Flat field from frames of good surface: the smoothed median of many frames shows the lamp, not the steel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from edge.calibration.motion_check import MotionCheck
from edge.errors import CalibrationError, NeedlessCalibration
from edge.frame import Float32s, Gray
from edge.vision.drawing import label
from edge.vision.flatfield import FACTOR, UNIT, cells, unevenness

MIN_FRAMES: Final = 10
MAX_GAIN: Final = 3.0
SMOOTH: Final = 0.04
"""Sigma, as a share of the longer side: finer structure is not attributed to the light."""
HELPS: Final = 0.8
"""The gain must reduce the unevenness of unused frames below this share of it."""
DARK: Final = 20.0
BRIGHT: Final = 245.0
"""Limits of the median, gray levels."""
MAX_DARK_SHARE: Final = 0.01
"""Share of the surface below DARK: the lamp does not reach there, or there is no surface, and no gain helps."""
MAX_UNEVEN: Final = 0.3
"""Unevenness that may be left. Good surface had 0.05 (generated strip), 0.14 (237 cold-rolled tiles) and 0.25 (51
hot-rolled tiles); with a strip edge of 40 px 0.7, with a black gap of 60 px 1.1 (800 px wide)."""


@dataclass(frozen=True, slots=True)
class Light:
    """gain: (h, w) float32.  before, after: unevenness of the check frames, without and with it."""

    gain: Float32s
    before: float
    after: float


def measure(
    frames: Sequence[Gray],
    roi: tuple[int, int, int, int] | None = None,
    outline: npt.NDArray[np.int32] | None = None,
) -> Light:
    """Compute the gain from every second frame and check it on the others.

    roi: x y w h of the surface, px.  outline: (N, 2) its corners, where it is a polygon inside roi.
    Raises CalibrationError when the frames are too few, show one piece of surface, are too dark or saturated, in part
    or in whole; NeedlessCalibration when the gain would not help.
    """
    if len(frames) < MIN_FRAMES:
        raise CalibrationError(f"{len(frames)} frames: at least {MIN_FRAMES}, of different good surface, are needed")
    x, y, w, h = roi or (0, 0, frames[0].shape[1], frames[0].shape[0])
    if min(w, h) < 2 * FACTOR:
        raise CalibrationError(
            f"{w}x{h} px of surface are too few to separate light from steel: at least {2 * FACTOR} each way"
        )
    motion = MotionCheck()
    for frame in frames:
        motion.add(frame[y : y + h, x : x + w])
    motion.check()
    light = _light(frames[::2], roi)
    median = float(np.median(light))
    if median < DARK or median > BRIGHT:
        fault = "too dark" if median < DARK else "saturated"
        raise CalibrationError(f"a median of {median:.0f} gray levels is {fault}: adjust exposure or lamp first")
    dark = _dark_share(frames, (x, y, w, h), outline)
    if dark > MAX_DARK_SHARE:
        raise CalibrationError(
            f"{dark:.0%} of the region are dark in most frames: background beside the strip, or a gap in it. Calibrate "
            "the region first: `defectd calibrate roi`"
        )
    gain = np.clip(median / np.maximum(light, 1.0), 1 / MAX_GAIN, MAX_GAIN).astype(np.float32)
    before = float(np.mean([_unevenness(frame, None, roi) for frame in frames[1::2]]))
    after = float(np.mean([_unevenness(frame, gain, roi) for frame in frames[1::2]]))
    if after > HELPS * before:
        raise NeedlessCalibration(
            f"it would not help: brightness varies by {100 * before:.1f} % across the frame, and by "
            f"{100 * after:.1f} % with the gain. Give more frames of good surface, or inspect without a flat field. If "
            "the frames show dark background, calibrate the region first: `defectd calibrate roi`"
        )
    if after > MAX_UNEVEN:
        raise CalibrationError(
            f"brightness still varies by {after:.0%} across the frame with the gain, and good surface varies by less "
            f"than {MAX_UNEVEN:.0%}: the frames show more than even surface. Look at them; if they show background, "
            "calibrate the region first: `defectd calibrate roi`"
        )
    return Light(gain, before, after)


def _dark_share(frames: Sequence[Gray], roi: tuple[int, int, int, int], outline: npt.NDArray[np.int32] | None) -> float:
    """Share of the surface that is dark in most frames; a margin of one cell is left out."""
    height, width = frames[0].shape
    size = (round(width / FACTOR), round(height / FACTOR))
    usual = np.median([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames], axis=0)
    x, y, w, h = roi
    corners = np.array([(x, y), (x + w - 1, y), (x + w - 1, y + h - 1), (x, y + h - 1)], np.int32)
    surface = cv2.fillPoly(np.zeros((height, width), np.uint8), [corners if outline is None else outline], 255)
    inside = cv2.erode(cv2.resize(surface, size, interpolation=cv2.INTER_AREA), np.ones((3, 3), np.uint8)) == 255
    return float((usual[inside] < DARK).mean()) if inside.any() else 0.0


def _light(frames: Sequence[Gray], roi: tuple[int, int, int, int] | None) -> Float32s:
    height, width = frames[0].shape
    size = (round(width / FACTOR), round(height / FACTOR))
    small = np.median([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames], axis=0)
    if roi is not None:  # the background shows no light: continue the values at the strip's border there
        x, y, w, h = roi
        left, top = min(-(-x // FACTOR), size[0] - 1), min(-(-y // FACTOR), size[1] - 1)
        right, below = min((x + w) // FACTOR, size[0]), min((y + h) // FACTOR, size[1])
        inner = small[top : max(top + 1, below), left : max(left + 1, right)]
        margins = ((top, size[1] - top - inner.shape[0]), (left, size[0] - left - inner.shape[1]))
        small = np.pad(inner, margins, mode="edge")
    sigma = SMOOTH * max(size)
    return np.asarray(cv2.GaussianBlur(small.astype(np.float32), (0, 0), sigma, borderType=cv2.BORDER_REPLICATE))


def _unevenness(frame: Gray, gain: Float32s | None, roi: tuple[int, int, int, int] | None) -> float:
    height, width = frame.shape
    if gain is not None:
        whole = cv2.resize(gain, (width, height), interpolation=cv2.INTER_LINEAR)
        frame = np.asarray(cv2.multiply(frame, whole, dtype=cv2.CV_8U), np.uint8)
    x, y, w, h = roi or (0, 0, width, height)
    return unevenness(cells(frame[y : y + h, x : x + w]))


def coded(gain: Float32s) -> npt.NDArray[np.uint16]:
    """The gain as the PNG file holds it, in steps of 1 / UNIT."""
    return np.clip(np.rint(gain * UNIT), 1, 65_535).astype(np.uint16)


def overlay(frame: Gray, light: Light) -> npt.NDArray[np.uint8]:
    """(3 H, W, 3) uint8 BGR: the frame, the gain as a heat map with its scale, and the corrected frame."""
    height, width = frame.shape
    gain = light.gain
    whole = cv2.resize(gain, (width, height), interpolation=cv2.INTER_LINEAR)
    even = np.asarray(cv2.multiply(frame, whole, dtype=cv2.CV_8U), np.uint8)
    low, high = float(gain.min()), float(gain.max())
    whole[-max(8, height // 20) :] = np.linspace(low, high, width)  # the scale
    shade = 255 * np.clip((whole - low) / max(high - low, 1e-3), 0, 1)
    heat = cv2.applyColorMap(shade.astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    gray = [cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR) for picture in (frame, even)]
    panels = [np.asarray(panel, np.uint8) for panel in (gray[0], heat, gray[1])]
    titles = (
        f"as grabbed: {light.before:.1%} uneven (mean of the frames checked)",
        f"gain: dark is {low:.2f}, bright is {high:.2f}",
        f"with the gain: {light.after:.1%} uneven",
    )
    for panel, title in zip(panels, titles, strict=True):
        label(panel, title, (8, 20))
    return np.vstack(panels)
