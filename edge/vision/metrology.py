"""From px of a frame to mm on the strip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import cv2
import numpy as np

from edge import config
from edge.coverage.strip_position import FramePoint, Span, StripPosition
from edge.frame import Box, Float64s

SIZES_KEPT: Final = 8
"""A camera has one frame size; a folder of images may have several."""
Direction = Literal["up", "down", "left", "right"]
_WAY: Final[dict[Direction, tuple[int, int]]] = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0)}


@dataclass(frozen=True, slots=True)
class Ruler:
    """One number, or the lens and the plane of the strip as `edge.calibration.scale` measured them.

    lens: fx, fy, cx, cy, k1, k2, p1, p2, k3 (OpenCV's), or None.  plane: (3, 3), undistorted px to mm, or None.
    """

    mm_per_px: float
    lens: Float64s | None = None
    plane: Float64s | None = None

    @classmethod
    def of(cls, scale: config.Scale) -> Ruler:
        lens = None if scale.lens is None else np.array(scale.lens, np.float64)
        plane = None if scale.plane is None else np.array(scale.plane, np.float64).reshape(3, 3)
        return cls(scale.mm_per_px, lens, plane)

    def points_mm(self, points_px: Sequence[tuple[float, float]] | Float64s) -> Float64s:
        """(N, 2) mm of (N, 2) px.  The origin is the frame's upper left corner, x runs to its right."""
        points = np.asarray(points_px, np.float64).reshape(-1, 2)
        if self.plane is None:
            return points * self.mm_per_px
        if self.lens is not None:
            points = undistorted(points, self.lens)
        ahead = np.hstack([points, np.ones((len(points), 1))]) @ self.plane.T
        return np.asarray(ahead[:, :2] / ahead[:, 2:], np.float64)

    def box_mm(self, box: Box) -> tuple[float, float, float, float]:
        """x, y, width, height of the smallest upright box around it, mm, to the hundredth."""
        x, y, w, h = box
        corners = self.points_mm([(x, y), (x + w, y), (x + w, y + h), (x, y + h)])
        (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
        return round(float(left), 2), round(float(top), 2), round(float(right - left), 2), round(float(bottom - top), 2)


@dataclass(frozen=True, slots=True)
class Heading:
    """Where the strip runs to in the picture: from places in a frame to places on the strip.

    A mark says where the strip stands at the edge at which it leaves the picture.  frame_px: width, height.
    """

    ruler: Ruler
    direction: Direction
    _views: dict[tuple[int, int], tuple[float, float, float, float]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, ruler: Ruler | None, direction: Direction | None) -> Heading | None:
        """None where one of them is not known."""
        return None if ruler is None or direction is None else cls(ruler, direction)

    def view_m(self, frame_px: tuple[int, int]) -> float:
        """Metres of strip in a frame."""
        _, _, w, h = self._view(frame_px)
        return (h if self.direction in ("up", "down") else w) / 1000

    def span(self, box: Box, frame_px: tuple[int, int], mark: StripPosition) -> Span:
        """What a box takes up of the strip."""
        left, top, w, h = self.ruler.box_mm(box)
        view_left, view_top, view_w, view_h = self._view(frame_px)
        match self.direction:
            case "up":
                near_mm, long_mm = top - view_top, h
            case "down":
                near_mm, long_mm = view_top + view_h - top - h, h
            case "left":
                near_mm, long_mm = left - view_left, w
            case "right":
                near_mm, long_mm = view_left + view_w - left - w, w
        return Span(FramePoint(mark, near_mm / 1000), FramePoint(mark, (near_mm + long_mm) / 1000))

    def drift_px(self, m: float) -> tuple[float, float]:
        """Right and down, px, that the middle of the picture moves while the strip runs so far."""
        right, down = _WAY[self.direction]
        px = m * 1000 / self.ruler.mm_per_px
        return right * px, down * px

    def _view(self, frame_px: tuple[int, int]) -> tuple[float, float, float, float]:
        view = self._views.get(frame_px)
        if view is None:
            if len(self._views) >= SIZES_KEPT:
                self._views.clear()
            view = self._views[frame_px] = self.ruler.box_mm((0, 0, *frame_px))
        return view


def matrix(lens: Float64s) -> Float64s:
    """(3, 3) of fx, fy, cx, cy."""
    fx, fy, cx, cy = lens[:4]
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)


def undistorted(points: Float64s, lens: Float64s) -> Float64s:
    """Where (N, 2) px would lie behind a lens without distortion."""
    k = matrix(lens)
    return np.asarray(cv2.undistortPoints(points.reshape(-1, 1, 2), k, lens[4:], P=k), np.float64).reshape(-1, 2)
