"""How far a flaw reaches within the tiles that show it: by what stands out from the surface around it.

Tiles say that something is there; they are far larger than most flaws. Pixels of their box that differ from the light
around them by several times what most do are the flaw; specks beside it are left out.
"""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np

from edge.frame import Box, Float32s, Gray
from edge.vision.decision import Region, within

TILE_PX: Final = 100
"""Looked at in a size in which a tile has this side: small flaws are still a few pixels wide."""
MAX_PX: Final = 64 << 10
"""Of that picture; it is made smaller for a flaw over many tiles."""
MARGIN: Final = 0.25
"""Of a tile, around the box: surface to compare with."""
AROUND: Final = 0.4
"""Of a tile: light is what is alike over this length."""
GRAIN: Final = 1.0
"""Sigma, in pixels of the smaller picture: finer than this is grain."""
CLEAR: Final = 4.5
"""Standard deviations of the surface, from which a pixel stands out."""
GAP: Final = 0.06
"""Of a tile: parts that lie nearer to each other are one."""
SPECK: Final = 0.15
"""A part with less than this share of what the largest part stands out by is not the flaw."""
COARSE: Final = 4
"""Light is looked at so many times smaller."""
SPARSE: Final = 7
"""Every seventh pixel says what most do."""
MIN_AREA: Final = 6
"""Pixels of a part: fewer stand out by chance now and then."""
MIN_SIGMA: Final = 0.5
"""Gray levels: surface without any grain would make everything stand out."""


def extent(image: Gray, region: Region, tile_px: int) -> Box | None:
    """Where in its box the flaw itself shows; None where nothing stands out.  image: the whole frame, (H, W) uint8."""
    x, y, w, h = region.box_px
    margin = round(MARGIN * tile_px)
    left, top = max(0, x - margin), max(0, y - margin)
    around = image[top : y + h + margin, left : x + w + margin]
    height, width = around.shape
    scale = min(1.0, TILE_PX / tile_px, math.sqrt(MAX_PX / (height * width)))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(cv2.resize(around, size, interpolation=cv2.INTER_AREA), np.uint8)
    found = _standing_out(small, scale * tile_px)
    if found is None:
        return None
    across, down = width / size[0], height / size[1]
    from_x, to_x = left + math.floor(found[0] * across), left + math.ceil((found[0] + found[2]) * across)
    from_y, to_y = top + math.floor(found[1] * down), top + math.ceil((found[1] + found[3]) * down)
    return within((from_x, from_y, to_x - from_x, to_y - from_y), region.box_px)


def _standing_out(small: Gray, tile_px: float) -> Box | None:
    """The box around the parts of a picture that differ from the light around them."""
    off = cv2.GaussianBlur(small, (0, 0), GRAIN, borderType=cv2.BORDER_REFLECT).astype(np.float32)
    off -= _light(small, tile_px)
    some = off.ravel()[::SPARSE]
    off = np.abs(off - np.median(some))
    sigma = max(MIN_SIGMA, 1.4826 * float(np.median(off.ravel()[::SPARSE])))
    clear = off > CLEAR * sigma
    gap = max(3, round(GAP * tile_px)) | 1
    closed = cv2.morphologyEx(clear.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((gap, gap), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    weights = np.bincount(labels.ravel(), np.where(clear, off, 0.0).ravel(), count)
    weights[0] = 0  # the surface
    weights[stats[:, cv2.CC_STAT_AREA] < MIN_AREA] = 0
    if not weights.any():
        return None
    lefts, tops, widths, heights = stats[weights >= max(SPECK * weights.max(), 1e-6), :4].T
    left, top = int(lefts.min()), int(tops.min())
    return left, top, int((lefts + widths).max()) - left, int((tops + heights).max()) - top


def _light(small: Gray, tile_px: float) -> Float32s:
    """What is alike around each pixel: a median, since a mean would stand out itself beside a strong flaw."""
    height, width = small.shape
    coarse = cv2.resize(small, (max(1, width // COARSE), max(1, height // COARSE)), interpolation=cv2.INTER_AREA)
    length = max(3, round(AROUND * tile_px / COARSE)) | 1
    light = cv2.medianBlur(coarse, length).astype(np.float32)
    return np.asarray(cv2.resize(light, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
