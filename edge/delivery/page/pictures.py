"""Frames as JPEG for browsers."""

from __future__ import annotations

from typing import Final

import cv2

from edge.errors import ImageError
from edge.frame import Gray

QUALITY: Final = 80


def jpeg(pixels: Gray, longest_px: int) -> tuple[bytes, tuple[int, int]]:
    """The frame as JPEG, scaled down so that its longest side has at most so many px; and its width and height.

    pixels: (H, W) uint8.  Raises ImageError.
    """
    height, width = pixels.shape
    scale = min(1.0, longest_px / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = pixels if scale == 1.0 else cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    done, coded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise ImageError("the picture cannot be encoded")
    return coded.tobytes(), size
