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
    """Counts from 0 over all frames that the source delivered, including frames that were dropped."""
    pixels: Gray
    grabbed_ns: int
    """Monotonic, when the source's read returned. Not the exposure time."""
    decode_us: int = 0
    """The time that the camera process took to read and convert the picture."""
    label: str = ""
    """The file name, for recordings."""
    deadline_ns: int | None = None
    """Monotonic, when the verdict is due; None: no deadline, as for recordings. The inspection loop sets it."""

    def due(self, deadline_ns: int | None) -> Frame:
        """The same frame with its deadline."""
        if deadline_ns is None:
            return self
        return Frame(self.camera, self.number, self.pixels, self.grabbed_ns, self.decode_us, self.label, deadline_ns)
