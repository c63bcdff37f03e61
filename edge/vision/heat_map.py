"""Where the network sees a defect in the tiles of a region: the odds of any defect, cell by cell of its last maps.

The cells are coarse, a quarter of a tile for the shipped network, but they also show a texture, of which no single
pixel stands out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from edge.frame import Box, Float32s

STEPS: Final = 16
"""The map has so many steps along a tile."""
HOT: Final = 0.25
"""A step is hot if its evidence is above this share of the highest of the region."""


@dataclass(frozen=True, slots=True)
class HeatMap:
    """The evidence for any defect in a region.

    evidence: (rows, columns) float32, the logarithm of the odds of any defect where it is above 0, else 0; the mean of
    the tiles that overlap there.  Somewhere it is above 0.
    left_px, top_px: where the first step starts.  step_px: side of a step.  cell_px: side of a cell.
    """

    evidence: Float32s
    left_px: int
    top_px: int
    step_px: float
    cell_px: float

    @property
    def hot_px(self) -> Box:
        """The box around the hot steps."""
        rows, columns = np.nonzero(self.evidence > HOT * self.evidence.max())
        left, top = (int(place.min() * self.step_px) for place in (columns, rows))
        right, bottom = (math.ceil((int(place.max()) + 1) * self.step_px) for place in (columns, rows))
        return self.left_px + left, self.top_px + top, right - left, bottom - top

    def share(self, box: Box) -> float:
        """How much of the evidence for a defect lies in a box, or less than a cell beside it: 0 to 1."""
        x, y, w, h = box
        rows, columns = self._steps(y - self.top_px, h), self._steps(x - self.left_px, w)
        return float(self.evidence[rows, columns].sum() / self.evidence.sum())

    def _steps(self, start_px: int, length_px: int) -> slice:
        """The steps of a stretch of pixels, and of a cell before and behind it."""
        ends = start_px - self.cell_px, start_px + length_px + self.cell_px
        first, last = (max(0, round(end / self.step_px)) for end in ends)
        return slice(first, last)


def heat_map(cells: Float32s, boxes: npt.NDArray[np.int32], region_px: Box) -> HeatMap | None:
    """The map of a region; None if the network sees a defect in none of its cells.

    cells: (N, classes + 1, side, side) float32, as `Classifier.cells` gives them.  boxes: (N, 4) int32, x y w h, of
    these tiles.  region_px: holds all of them.
    """
    x, y, w, h = region_px
    odds = cells[:, :-1].max(axis=1) - cells[:, -1]
    step_px = float(boxes[0, 2]) / STEPS
    total = np.zeros((math.ceil(h / step_px), math.ceil(w / step_px)), np.float32)
    count = np.zeros_like(total)
    for tile, (left, top) in zip(odds, boxes[:, :2].tolist(), strict=True):
        row, column = round((top - y) / step_px), round((left - x) / step_px)
        at = slice(row, row + STEPS), slice(column, column + STEPS)
        rows, columns = total[at].shape
        total[at] += cv2.resize(tile, (STEPS, STEPS), interpolation=cv2.INTER_LINEAR)[:rows, :columns]
        count[at] += 1
    total /= np.maximum(count, 1)
    np.maximum(total, 0, out=total)
    return HeatMap(total, x, y, step_px, step_px * STEPS / odds.shape[1]) if total.max() > 0 else None
