"""The extent of a defect within its tiles: the pixels that stand out from the surface around them.

Tiles are far larger than most defects. A pixel belongs to the defect if its gray differs from the local brightness by
several standard deviations of the surface; specks beside the defect are left out. The network's evidence, cell by cell,
decides what belongs to the defect: an edge of the strip stands out, but shows no defect. Where the pixels are not what
the network sees, as in a texture that fills a tile, the extent also holds the cells in which it sees the defect.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Final

import cv2
import numpy as np

from edge.frame import Box, Float32s, Gray
from edge.vision.boxes import union, within
from edge.vision.decision import Region
from edge.vision.heat_map import HeatMap

TILE_PX: Final = 100
"""The region is shrunk until a tile has this side: small defects are then still a few pixels wide."""
MAX_PX: Final = 64 << 10
"""Largest size of the shrunk region, px: a defect over many tiles is shrunk further."""
MARGIN: Final = 0.25
"""Share of a tile, around the box: surface to compare with."""
AROUND: Final = 0.4
"""Share of a tile: the local brightness is a median over this length."""
GRAIN: Final = 1.0
"""Sigma of a blur, in pixels of the shrunk region, that removes the grain of the surface."""
MIN_DEVIATION: Final = 4.5
"""A pixel stands out if it deviates by more than this many standard deviations of the surface."""
GAP: Final = 0.06
"""Share of a tile: parts that are nearer to each other are one part."""
SPECK: Final = 0.15
"""A part whose summed deviation is below this share of the strongest part's is not the defect."""
COARSE: Final = 4
"""The brightness is computed at this fraction (1/4) of the size."""
SPARSE: Final = 7
"""The medians take every seventh pixel."""
MIN_AREA: Final = 6
"""Pixels of a part: a few pixels stand out by chance now and then."""
NEAR: Final = 0.3
"""Share of a tile: what is nearer to each other is drawn as one defect."""
MAX_PARTS: Final = 12
"""A region with more parts is one defect of many flecks."""
BESIDE: Final = 0.1
"""What stands out where less of the evidence is, such as the edge of the strip, is not the defect."""
EXPLAINED: Final = 0.75
"""The pixels that stand out are the defect if this share of the network's evidence lies within a cell of their box."""
MIN_SIGMA: Final = 0.5
"""Gray levels: on a surface without grain every pixel would stand out."""


def extent(image: Gray, region: Region, tile_px: int, heat: HeatMap | None = None) -> Box | None:
    """The box around the defect itself, within the region's; None where no pixel stands out and `heat` is None.

    image: the whole frame, (H, W) uint8.  tile_px: side of a tile in the frame.  heat: of the region.
    """
    found = _boxes(image, region, tile_px)
    if heat is not None:
        found = [part for part in found if heat.share(part) >= BESIDE]
    box = within(reduce(union, found), region.box_px) if found else None
    if heat is None or (box is not None and heat.share(box) >= EXPLAINED):
        return box
    return within(heat.hot_px if box is None else union(box, heat.hot_px), region.box_px)


def parts(image: Gray, region: Region, tile_px: int) -> tuple[Box, ...]:
    """Boxes around what lies apart from each other within a region, for a drawing.  Arguments as for `extent`."""
    near_px = NEAR * tile_px
    separate: list[Box] = []
    for box in _boxes(image, region, tile_px):
        joined = box
        while near := [one for one in separate if _gap_px(one, joined) < near_px]:
            separate = [one for one in separate if one not in near]
            joined = reduce(union, near, joined)
        separate.append(joined)
    if len(separate) > MAX_PARTS:
        separate = [reduce(union, separate)]
    return tuple(seen for box in sorted(separate) if (seen := within(box, region.box_px)) is not None)


def _gap_px(one: Box, other: Box) -> int:
    """Distance of two boxes along the axis on which they are farther apart; 0 where they overlap."""
    along = (max(one[axis] - other[axis] - other[axis + 2], other[axis] - one[axis] - one[axis + 2]) for axis in (0, 1))
    return max(0, *along)


def _boxes(image: Gray, region: Region, tile_px: int) -> list[Box]:
    """Boxes around the parts that stand out, px of the frame."""
    x, y, w, h = region.box_px
    margin = round(MARGIN * tile_px)
    left, top = max(0, x - margin), max(0, y - margin)
    around = image[top : y + h + margin, left : x + w + margin]
    height, width = around.shape
    scale = min(1.0, TILE_PX / tile_px, math.sqrt(MAX_PX / (height * width)))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(cv2.resize(around, size, interpolation=cv2.INTER_AREA), np.uint8)
    across, down = width / size[0], height / size[1]
    boxes = []
    for found in _standing_out(small, scale * tile_px):
        from_x, to_x = left + math.floor(found[0] * across), left + math.ceil((found[0] + found[2]) * across)
        from_y, to_y = top + math.floor(found[1] * down), top + math.ceil((found[1] + found[3]) * down)
        boxes.append((from_x, from_y, to_x - from_x, to_y - from_y))
    return boxes


def _standing_out(small: Gray, tile_px: float) -> list[Box]:
    """Boxes around the parts of a picture that differ from the local brightness, px of the picture."""
    off = cv2.GaussianBlur(small, (0, 0), GRAIN, borderType=cv2.BORDER_REFLECT).astype(np.float32)
    off -= _brightness(small, tile_px)
    some = off.ravel()[::SPARSE]
    off = np.abs(off - np.median(some))
    sigma = max(MIN_SIGMA, 1.4826 * float(np.median(off.ravel()[::SPARSE])))
    stands_out = off > MIN_DEVIATION * sigma
    gap = max(3, round(GAP * tile_px)) | 1
    closed = cv2.morphologyEx(stands_out.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((gap, gap), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    weights = np.bincount(labels.ravel(), np.where(stands_out, off, 0.0).ravel(), count)
    weights[0] = 0  # the surface
    weights[stats[:, cv2.CC_STAT_AREA] < MIN_AREA] = 0
    if not weights.any():
        return []
    return [(int(x), int(y), int(w), int(h)) for x, y, w, h in stats[weights >= max(SPECK * weights.max(), 1e-6), :4]]


def _brightness(small: Gray, tile_px: float) -> Float32s:
    """Local brightness around each pixel: a median, because a strong defect would shift a mean.  (H, W) float32."""
    height, width = small.shape
    coarse = cv2.resize(small, (max(1, width // COARSE), max(1, height // COARSE)), interpolation=cv2.INTER_AREA)
    length = max(3, round(AROUND * tile_px / COARSE)) | 1
    median = cv2.medianBlur(coarse, length).astype(np.float32)
    return np.asarray(cv2.resize(median, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
