"""What a camera delivers to inspection, and the array types that describe it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Gray = npt.NDArray[np.uint8]
"""(H, W) uint8, 8-bit grayscale, C-contiguous rows."""
Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]
Box = tuple[int, int, int, int]
"""x, y, width, height, px."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture.  pixels: a view into the camera's ring, valid until the frame is released."""

    camera: str
    number: int
    """Counts from 0 over all frames that the source delivered, also those that were dropped."""
    pixels: Gray
    grabbed_ns: int
    """Monotonic, when the source's read returned. Not the exposure time."""
    decode_us: int = 0
    """What reading and converting cost the camera process."""
    label: str = ""
    """Where the picture came from, for recordings: the file's name."""
