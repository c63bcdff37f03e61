"""From px of a frame to mm on the strip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge import config
from edge.vision.decision import Box

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ruler:
    """One number, or the lens and the plane of the strip as `edge.calibrate.scale` measured them.

    lens: fx, fy, cx, cy, k1, k2, p1, p2, k3 (OpenCV's), or None.  plane: (3, 3), undistorted px to mm, or None.
    """

    mm_per_px: float
    lens: Floats | None = None
    plane: Floats | None = None

    @classmethod
    def of(cls, scale: config.Scale) -> Ruler:
        lens = None if scale.lens is None else np.array(scale.lens, np.float64)
        plane = None if scale.plane is None else np.array(scale.plane, np.float64).reshape(3, 3)
        return cls(scale.mm_per_px, lens, plane)

    def points_mm(self, points_px: Sequence[tuple[float, float]] | Floats) -> Floats:
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


def matrix(lens: Floats) -> Floats:
    """(3, 3) of fx, fy, cx, cy."""
    fx, fy, cx, cy = lens[:4]
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)


def undistorted(points: Floats, lens: Floats) -> Floats:
    """Where (N, 2) px would lie behind a lens without distortion."""
    k = matrix(lens)
    return np.asarray(cv2.undistortPoints(points.reshape(-1, 1, 2), k, lens[4:], P=k), np.float64).reshape(-1, 2)
