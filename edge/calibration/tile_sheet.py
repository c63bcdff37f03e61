"""How much steel a tile shows: tiles of this camera in several sizes, over generated ones at the model's own scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from edge.camera.sources.simulator import CLASSES, Strip
from edge.frame import Gray
from edge.vision.tiles import shrink

Canvas = npt.NDArray[np.uint8]
Box = tuple[int, ...]

CELL_PX: Final = 150
GAP_PX: Final = 8
HEAD_PX: Final = 26
SHOWN: Final = len(CLASSES)
STRIP_PX: Final = 200
"""Side of a tile of the generated strip that shows what a training tile of the shipped model shows."""
_FRAMES: Final = 260
"""Of the generated strip, in which every class is seen."""


def sheet(frame: Gray, boxes: Sequence[tuple[int, Sequence[Box]]], input_px: int) -> Canvas:
    """(H, W, 3) uint8 BGR: a row of tiles for each size, as the network sees them, and a row of generated ones.

    frame: (H, W) uint8.  boxes: for each tile_px the tiles of the frame, x y w h.  input_px: the network's input.
    """
    rows = [_row(f"generated steel with defects, at the scale of the training: {STRIP_PX} px", examples(), input_px)]
    for tile_px, laid in boxes:
        tiles = [frame[y : y + h, x : x + w] for x, y, w, h in _spread(laid)]
        rows.append(_row(f"this camera, tiles of {tile_px} px", tiles, input_px))
    return np.vstack(rows)


def examples() -> list[Gray]:
    """A tile of the generated strip for each class, (200, 200) uint8 each."""
    strip = Strip(width=512, height=400, seed=5, speed_px=60, spacing_px=600)
    found: dict[str, Gray] = {}
    for number in range(_FRAMES):
        for defect, (x, y, w, h) in strip.truth(number):
            if defect.class_name in found or h < defect.box[3]:
                continue
            left = min(max(0, x + w // 2 - STRIP_PX // 2), strip.width - STRIP_PX)
            top = min(max(0, y + h // 2 - STRIP_PX // 2), strip.height - STRIP_PX)
            found[defect.class_name] = strip.frame(number)[top : top + STRIP_PX, left : left + STRIP_PX]
        if len(found) == len(CLASSES):
            break
    return [found[name] for name in CLASSES if name in found]


def _spread(laid: Sequence[Box]) -> list[Box]:
    """A few tiles, evenly spread."""
    places = np.linspace(0, len(laid) - 1, min(SHOWN, len(laid))).round().astype(int)
    return [laid[place] for place in places.tolist()]


def _row(title: str, tiles: Sequence[Gray], input_px: int) -> Canvas:
    canvas = np.full((HEAD_PX + CELL_PX + GAP_PX, SHOWN * (CELL_PX + GAP_PX), 3), 240, np.uint8)
    cv2.putText(canvas, title, (4, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (30, 30, 30), 1, cv2.LINE_AA)
    for place, tile in enumerate(tiles):
        small = shrink(tile, input_px, input_px)
        shown = cv2.resize(small, (CELL_PX, CELL_PX), interpolation=cv2.INTER_NEAREST)
        left = place * (CELL_PX + GAP_PX)
        canvas[HEAD_PX : HEAD_PX + CELL_PX, left : left + CELL_PX] = cv2.cvtColor(shown, cv2.COLOR_GRAY2BGR)
    return canvas
