"""Pictures for people: a frame with its defects drawn in (`defectd inspect --pictures`), JPEG and PNG encoding."""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import ImageError
from edge.frame import Box, Gray
from edge.host.rights import why
from edge.host.text import one_line
from edge.vision.boxes import overlap_px, union, within
from edge.vision.decision import Detections, Region
from edge.vision.defect_extent import parts

DEFECT_BGR: Final = (60, 60, 235)
TILES_BGR: Final = (225, 165, 75)
UNSURE_BGR: Final = (0, 190, 240)
BESIDE_PX: Final = 3
"""Between a defect and its line: the line hides nothing of it."""
FONT: Final = cv2.FONT_HERSHEY_SIMPLEX


def draw(image: Gray, detections: Detections, tile_px: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR: each defect itself in a thick line, its tiles in a thin one, unsure tiles in thin yellow.

    tile_px: side of a tile in the frame.  Defects that lie apart in one region have boxes of their own.
    """
    canvas = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    for x, y, w, h in detections.unsure_boxes:
        cv2.rectangle(canvas, (x + 1, y + 1), (x + w - 2, y + h - 2), UNSURE_BGR, 1)
    for region in detections.regions:
        x, y, w, h = region.box_px
        cv2.rectangle(canvas, (x + 1, y + 1), (x + w - 2, y + h - 2), TILES_BGR, 1)
        for left, top, across, down in _drawn(image, region, tile_px):
            corner = (left + across + BESIDE_PX, top + down + BESIDE_PX)
            cv2.rectangle(canvas, (left - BESIDE_PX, top - BESIDE_PX), corner, DEFECT_BGR, 2)
        words = f"{region.class_name} {region.confidence:.2f}"
        (width, height), _ = cv2.getTextSize(words, FONT, 0.5, 1)
        cv2.rectangle(canvas, (x + 1, y + 1), (x + width + 8, y + height + 10), DEFECT_BGR, cv2.FILLED)
        cv2.putText(canvas, words, (x + 4, y + height + 5), FONT, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    legend = ["thick red: a defect", "thin blue: its tiles"] if detections.regions else []
    legend += ["thin yellow: unsure"] if detections.unsure_boxes else []
    if legend:
        label(canvas, "; ".join(legend), (8, canvas.shape[0] - 10))
    return np.asarray(canvas, np.uint8)


def _drawn(image: Gray, region: Region, tile_px: int) -> tuple[Box, ...]:
    """The parts of the extent that stand out, or all of it where it holds more than these."""
    found, extent = parts(image, region, tile_px), region.extent_px
    if extent is None:
        return found or (region.box_px,)
    inside = tuple(part for part in found if overlap_px(part, extent))
    return inside if inside and within(extent, reduce(union, inside)) == extent else (extent,)


def label(canvas: npt.NDArray[Any], words: str, at: tuple[int, int]) -> None:
    """Write words into a picture, white on black, so that they are readable on any.

    at: x, y of their lower left corner, px.  The words shrink to the width of the picture.
    """
    wide = cv2.getTextSize(words, FONT, 0.5, 1)[0][0]
    size = 0.5 * min(1.0, (canvas.shape[1] - 2 * at[0]) / max(1, wide))
    (width, height), below = cv2.getTextSize(words, FONT, size, 1)
    left, top = at[0] - 4, at[1] - height - 4
    cv2.rectangle(canvas, (left, top), (at[0] + width + 4, at[1] + below + 2), (0, 0, 0), cv2.FILLED)
    cv2.putText(canvas, words, at, FONT, size, (255, 255, 255), 1, cv2.LINE_AA)


def jpeg(image: Gray, *, longest_px: int, quality: int, max_bytes: int) -> bytes:
    """Encode as JPEG, shrinking the picture until it fits into max_bytes.  quality: 1 to 100.  Raises ImageError."""
    side_px = max(image.shape)
    scale = min(1.0, longest_px / side_px)
    while True:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        small = image if scale == 1.0 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        done, coded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if not done:
            raise ImageError("the picture cannot be encoded")
        if len(coded) <= max_bytes:
            return bytes(coded)
        if max(size) < 16:
            raise ImageError(f"no picture fits into {max_bytes} bytes")
        scale *= 0.7


def decoded(coded: bytes) -> Gray:
    """Decode the bytes of a picture file.  Returns (H, W) uint8.  Raises ImageError."""
    image = cv2.imdecode(np.frombuffer(coded or b"\0", np.uint8), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise ImageError("the picture is damaged")
    return np.asarray(image, np.uint8)


def png(picture: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> bytes:
    """Encode as PNG.  Raises ImageError."""
    done, coded = cv2.imencode(".png", picture)
    if not done:
        raise ImageError("the picture cannot be encoded")
    return bytes(coded)


def save(path: Path, image: Gray, detections: Detections, tile_px: int) -> None:
    """Write the drawn picture as PNG.  Raises ImageError when it cannot be written."""
    content = png(draw(image, detections, tile_px))
    try:  # not by OpenCV, which crashes at a name that is not UTF-8
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        name = one_line(str(path), keep_end=True)
        raise ImageError(f"{name} cannot be written: {why(error)}") from error
