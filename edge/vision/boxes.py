"""Boxes in a frame: intersection and union.  All in px."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge.frame import Bools, Box


def overlap_px(a: Box, b: Box) -> int:
    """Area that two boxes share, px."""
    shared = within(a, b)
    return 0 if shared is None else shared[2] * shared[3]


def within(a: Box, b: Box) -> Box | None:
    """The intersection of two boxes; None where they do not overlap."""
    left, top = max(a[0], b[0]), max(a[1], b[1])
    right, bottom = min(a[0] + a[2], b[0] + b[2]), min(a[1] + a[3], b[1] + b[3])
    return (left, top, right - left, bottom - top) if left < right and top < bottom else None


def all_within(boxes: npt.NDArray[np.int32], box: Box) -> Bools:
    """(N,) which of many boxes lie whole in another one.  boxes: (N, 4) int32, x y w h."""
    x, y, w, h = box
    starts, ends = boxes[:, :2] >= (x, y), boxes[:, :2] + boxes[:, 2:] <= (x + w, y + h)
    return np.asarray(starts.all(axis=1) & ends.all(axis=1), np.bool_)


def union(a: Box, b: Box) -> Box:
    """The smallest box around both."""
    left, top = min(a[0], b[0]), min(a[1], b[1])
    right, bottom = max(a[0] + a[2], b[0] + b[2]), max(a[1] + a[3], b[1] + b[3])
    return left, top, right - left, bottom - top
