"""From px in a frame to mm on the strip: scale, lens and direction of travel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import cv2
import numpy as np

from edge import config
from edge.config.camera_calibration import Side
from edge.coverage.strip_position import FramePoint, Span, StripPosition
from edge.frame import Box, Float64s

SIZES_KEPT: Final = 8
"""A camera has one frame size; a folder of images may have several."""
Direction = Literal["up", "down", "left", "right"]
_UNIT: Final[dict[Direction, tuple[int, int]]] = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0)}


@dataclass(frozen=True, slots=True)
class Ruler:
    """The scale of a camera: one number, or lens and plane of the strip as `edge.calibration.scale` measures them.

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
        homogeneous = np.hstack([points, np.ones((len(points), 1))]) @ self.plane.T
        return np.asarray(homogeneous[:, :2] / homogeneous[:, 2:], np.float64)

    def box_mm(self, box: Box) -> tuple[float, float, float, float]:
        """The smallest upright box around it on the strip: x, y, width, height, mm, rounded to 0.01."""
        x, y, w, h = box
        corners = self.points_mm([(x, y), (x + w, y), (x + w, y + h), (x, y + h)])
        (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
        return round(float(left), 2), round(float(top), 2), round(float(right - left), 2), round(float(bottom - top), 2)

    def across_mm(self, px: float, frame_px: tuple[int, int], *, upright: bool) -> float:
        """The coordinate of a place half way along the strip in the picture, mm as in `points_mm`.

        px: from the left, or from the top.  upright: the strip runs up or down, so that x lies across it.
        """
        width, height = frame_px
        point = self.points_mm([(px, height / 2) if upright else (width / 2, px)])[0]
        return float(point[0] if upright else point[1])


@dataclass(frozen=True, slots=True)
class Heading:
    """The direction of the strip in the picture: maps places in a frame to places on the strip.

    The position of a frame is that of the strip at the edge where it leaves the picture.  frame_px: width, height.
    """

    ruler: Ruler
    direction: Direction
    _views_mm: dict[tuple[int, int], tuple[float, float, float, float]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, ruler: Ruler | None, direction: Direction | None) -> Heading | None:
        """None where scale or direction is unknown."""
        return None if ruler is None or direction is None else cls(ruler, direction)

    def view_m(self, frame_px: tuple[int, int]) -> float:
        """Length of strip that a frame shows, m."""
        _, _, w, h = self._view_mm(frame_px)
        return (h if self.direction in ("up", "down") else w) / 1000

    def span(self, box: Box, frame_px: tuple[int, int], position: StripPosition) -> Span:
        """The part of the strip that a box covers.  position: of the frame."""
        left, top, w, h = self.ruler.box_mm(box)
        view_left, view_top, view_w, view_h = self._view_mm(frame_px)
        match self.direction:
            case "up":
                near_mm, length_mm = top - view_top, h
            case "down":
                near_mm, length_mm = view_top + view_h - top - h, h
            case "left":
                near_mm, length_mm = left - view_left, w
            case "right":
                near_mm, length_mm = view_left + view_w - left - w, w
        return Span(FramePoint(position, near_mm / 1000), FramePoint(position, (near_mm + length_mm) / 1000))

    def drift_px(self, m: float) -> tuple[float, float]:
        """How far the middle of the picture moves, px to the right and down, while the strip moves by m meters."""
        right, down = _UNIT[self.direction]
        px = m * 1000 / self.ruler.mm_per_px
        return right * px, down * px

    def _view_mm(self, frame_px: tuple[int, int]) -> tuple[float, float, float, float]:
        view = self._views_mm.get(frame_px)
        if view is None:
            if len(self._views_mm) >= SIZES_KEPT:
                self._views_mm.clear()
            view = self._views_mm[frame_px] = self.ruler.box_mm((0, 0, *frame_px))
        return view


@dataclass(frozen=True, slots=True)
class Crosswise:
    """Places across the strip, counted from its operator side.  side: where that side lies in the picture.

    at_mm: from the operator side of the strip to the picture's edge on that side; None: not stated.
    """

    ruler: Ruler
    side: Side
    at_mm: float | None

    @classmethod
    def of(cls, ruler: Ruler | None, side: Side | None, at_mm: float | None) -> Crosswise | None:
        """None where scale or side is unknown."""
        return None if ruler is None or side is None else cls(ruler, side, at_mm)

    def across_mm(
        self, box_mm: tuple[float, float, float, float], frame_px: tuple[int, int], seen_px: float | None
    ) -> tuple[float, float] | None:
        """From, to; None where neither seen_px nor at_mm is known.  seen_px: the strip's edge on that side, if seen.

        at_mm overrides the edge: a person stated it.
        """
        if self.at_mm is not None:
            zero_mm, at_mm = self._coordinate_mm(self._edge_of_picture(frame_px), frame_px), self.at_mm
        elif seen_px is not None:
            zero_mm, at_mm = self._coordinate_mm(seen_px, frame_px), 0.0
        else:
            return None
        left, top, w, h = box_mm
        near, far = (left, left + w) if self.side in ("left", "right") else (top, top + h)
        ends = (near - zero_mm, far - zero_mm) if self.side in ("left", "top") else (zero_mm - far, zero_mm - near)
        return round(at_mm + ends[0], 1), round(at_mm + ends[1], 1)

    def _edge_of_picture(self, frame_px: tuple[int, int]) -> float:
        width, height = frame_px
        return {"left": 0.0, "top": 0.0, "right": float(width), "bottom": float(height)}[self.side]

    def _coordinate_mm(self, px: float, frame_px: tuple[int, int]) -> float:
        return self.ruler.across_mm(px, frame_px, upright=self.side in ("left", "right"))


def matrix(lens: Float64s) -> Float64s:
    """The camera matrix, (3, 3), of fx, fy, cx, cy."""
    fx, fy, cx, cy = lens[:4]
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)


def undistorted(points: Float64s, lens: Float64s) -> Float64s:
    """(N, 2) px as a lens without distortion would show them."""
    k = matrix(lens)
    return np.asarray(cv2.undistortPoints(points.reshape(-1, 1, 2), k, lens[4:], P=k), np.float64).reshape(-1, 2)
