"""Where the tiles of a frame lie, and how they become the network's input.

The region of interest is shrunk once per frame, and the tiles are cut out of the small picture, so that no pixel of
overlapping tiles is resized twice. For an integer factor (200 -> 100) and even tile positions this gives the same bytes
as shrinking each tile alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import ImageError
from edge.frame import Gray

Rectangle = tuple[int, int, int, int]
Polygon = tuple[tuple[int, int], ...]
Zone = Rectangle | Polygon
Roi = Zone | None
"""None for the whole frame, x y w h, or the corners of a polygon, in px of the frame."""

MAX_TILES = 10_000
"""Per frame. More is a mistake in the configuration, and would fill the memory."""
MIN_SIDE = 0.5
"""A frame narrower than this share of a tile shows too little surface to be inspected."""


def shrink(image: Gray, width: int, height: int) -> Gray:
    """Resize by area averaging, the one definition of preprocessing.  Returns (height, width) uint8."""
    if image.shape == (height, width):
        return image
    shrinking = width <= image.shape[1] and height <= image.shape[0]
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
    return np.asarray(small, np.uint8)


@dataclass(frozen=True, slots=True)
class TileGrid:
    """The tiles of every frame of one size.

    boxes: (N, 4) int32, x y w h in px of the frame, clipped to it.  cells: (N, 2) int32, row and column.
    """

    frame_shape: tuple[int, int]
    window: Rectangle
    """The rectangle that is cut out of the frame before shrinking: x y w h, px."""
    small: tuple[int, int]
    """Width and height of the shrunk window, before mirroring extends it to at least one tile."""
    input_px: int
    boxes: npt.NDArray[np.int32]
    cells: npt.NDArray[np.int32]
    places: tuple[tuple[slice, slice], ...]
    """Rows and columns of each tile in the shrunk window."""

    def __len__(self) -> int:
        return len(self.places)

    def cut(
        self,
        image: Gray,
        out: Gray | None = None,
        chosen: npt.NDArray[np.intp] | None = None,
        gain: npt.NDArray[np.float32] | None = None,
    ) -> Gray:
        """Cut the tiles out of one frame, in the order of `boxes`.

        image: frame_shape, uint8.  out: (>= N, input_px, input_px) uint8 to fill; None: a new array.
        chosen: only these tiles, by index and in this order.  gain: of the shrunk window, (h, w) float32.
        Returns (N, input_px, input_px) uint8, copies: the frame may be released after the call.
        Raises ImageError for a picture of another shape.
        """
        places = self.places if chosen is None else [self.places[i] for i in chosen.tolist()]
        side, count = self.input_px, len(places)
        if image.shape != self.frame_shape:
            raise ImageError(f"a picture of shape {image.shape} where {self.frame_shape} was expected")
        x, y, w, h = self.window
        small = shrink(image[y : y + h, x : x + w], *self.small)
        if gain is not None:
            small = np.asarray(cv2.multiply(small, gain, dtype=cv2.CV_8U), np.uint8)
        right, below = max(0, side - self.small[0]), max(0, side - self.small[1])
        if right or below:
            small = np.pad(small, ((0, below), (0, right)), mode="symmetric")
        tiles = np.empty((count, side, side), np.uint8) if out is None else out[:count]
        for tile, place in zip(tiles, places, strict=True):
            tile[:] = small[place]
        return tiles


def lay(
    frame_shape: tuple[int, int],
    *,
    tile_px: int,
    input_px: int,
    overlap: float = 0.0,
    roi: Roi = None,
    exclude: Sequence[Zone] = (),
) -> TileGrid:
    """Lay tiles over frames of one size.

    frame_shape: height, width.  overlap: minimum share of a tile that its neighbour covers too, 0 to 0.9.
    Every pixel of the window is in a tile. A polygon leaves out tiles that lie less than half inside; a zone in
    `exclude` leaves out tiles that lie more than half inside.
    Raises ImageError when the region is outside the frame or too small to be inspected.
    """
    window = _window(frame_shape, roi)
    x, y, w, h = window
    min_px = math.ceil(tile_px * MIN_SIDE)
    if w < min_px or h < min_px:
        raise ImageError(f"{w}x{h} px is too small: a tile is {tile_px} px, at least {min_px} px are needed each way")
    ratio = input_px / tile_px
    small = (max(1, round(w * ratio)), max(1, round(h * ratio)))
    lefts, columns = _spans(small[0], w, input_px, overlap)
    tops, rows = _spans(small[1], h, input_px, overlap)
    if len(lefts) * len(tops) > MAX_TILES:
        raise ImageError(
            f"{len(lefts) * len(tops)} tiles for {w}x{h} px, at most {MAX_TILES}: raise tile_px or lower overlap"
        )
    boxes, cells, places = [], [], []
    for row, ((from_y, to_y), top) in enumerate(zip(rows, tops, strict=True)):
        for column, ((from_x, to_x), left) in enumerate(zip(columns, lefts, strict=True)):
            box = (x + from_x, y + from_y, to_x - from_x, to_y - from_y)
            if _is_polygon(roi) and _share_inside(roi, box, input_px) < 0.5:
                continue
            if any(_share_inside(_corners(zone), box, input_px) > 0.5 for zone in exclude):
                continue
            boxes.append(box)
            cells.append((row, column))
            places.append((slice(top, top + input_px), slice(left, left + input_px)))
    if not boxes:
        raise ImageError("no tile is left: none lies at least half inside the region of interest and outside `exclude`")
    return TileGrid(
        frame_shape, window, small, input_px, np.array(boxes, np.int32), np.array(cells, np.int32), tuple(places)
    )


def _spans(length: int, full: int, side: int, overlap: float) -> tuple[list[int], list[tuple[int, int]]]:
    """Along one axis: where tiles start in the shrunk window, and which part of the full window each shows.

    The shrunk length is rounded, so the true scale differs a little from side / tile_px. With the true scale the last
    tile ends where the window ends.
    """
    starts = _positions(length, side, overlap)
    scale = full / length
    return starts, [(round(start * scale), min(full, round((start + side) * scale))) for start in starts]


def _positions(length: int, side: int, overlap: float) -> list[int]:
    """Starts of tiles of `side` px that cover `length` px, evenly spread, as few as the overlap allows."""
    if length <= side:
        return [0]
    shared = overlap * side
    count = math.ceil((length - shared) / (side - shared) - 1e-9)
    count = min(count, length - side + 1)  # for tiles of a few pixels: a step is at least one pixel
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


def _is_polygon(roi: Roi) -> TypeGuard[Polygon]:
    return roi is not None and isinstance(roi[0], tuple)


def _is_rectangle(roi: Roi) -> TypeGuard[Rectangle]:
    return roi is not None and isinstance(roi[0], int)


def _window(frame_shape: tuple[int, int], roi: Roi) -> Rectangle:
    height, width = frame_shape
    left, top, right, bottom = 0, 0, width, height
    if _is_polygon(roi):
        xs, ys = [x for x, _ in roi], [y for _, y in roi]
        left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
    elif _is_rectangle(roi):
        x, y, w, h = roi
        left, top, right, bottom = x, y, x + w, y + h
    left, top, right, bottom = max(0, left), max(0, top), min(width, right), min(height, bottom)
    if left >= right or top >= bottom:
        raise ImageError(f"the region of interest {roi} lies outside the frame of {width}x{height} px")
    return left, top, right - left, bottom - top


def _corners(zone: Zone) -> Polygon:
    if _is_rectangle(zone):
        x, y, w, h = zone
        return (x, y), (x + w, y), (x + w, y + h), (x, y + h)
    return tuple(corner for corner in zone if isinstance(corner, tuple))


def _share_inside(polygon: Polygon, box: Rectangle, side: int) -> float:
    """Share of the box's area inside the polygon, computed on a mask of at most `side` px each way."""
    x, y, w, h = box
    width, height = min(w, side), min(h, side)
    mask = np.zeros((height, width), np.uint8)
    corners = np.array([((px - x) * width / w, (py - y) * height / h) for px, py in polygon])
    cv2.fillPoly(mask, [np.rint(corners).astype(np.int32)], (1,))
    return float(mask.mean())
