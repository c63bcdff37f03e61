"""Does the strip move? Footage of a strip that stands still shows one piece of surface, however many frames it has.

The check correlates the texture of frames some time apart, place by place. Frames of a moving strip are uncorrelated;
frames of a strip that stands still are correlated, as far as the noise of the sensor allows.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from edge.errors import CalibrationError
from edge.frame import Float32s, Gray

EVERY: Final = 8
"""Frames from one comparison to the next: even a slow strip has moved by then."""
SHRUNK: Final = 4
"""Reduction before the comparison, which keeps texture and removes noise."""
PLACES: Final = 6
"""Rows and columns of places; an edge or a caption that stands still is in few of them."""
STILL: Final = 0.3
"""Correlation. Real steel that moved by 24 px has up to 0.06; still steel has 0.45 to 0.93, with noise of 4 gray
levels."""


class MotionCheck:
    """Compares the surface of frames, one after another."""

    def __init__(self) -> None:
        self._count = 0
        self._previous: Float32s | None = None
        self._correlations: list[float] = []

    def add(self, surface: Gray) -> None:
        """Take the next frame.  surface: (H, W) uint8; frames of different sizes are not compared."""
        if self._count % EVERY == 0:
            texture = _texture(surface)
            if self._previous is not None and self._previous.shape == texture.shape:
                self._correlations.append(_correlation(self._previous, texture))
            self._previous = texture
        self._count += 1

    def check(self) -> None:
        """Raises CalibrationError when most frames showed the same surface."""
        if self._correlations and float(np.median(self._correlations)) > STILL:
            raise CalibrationError(
                "the frames repeat, they show the same surface: the strip must move, or only one piece of it is "
                "calibrated"
            )


def _texture(surface: Gray) -> Float32s:
    """Mixed second difference, across and along: lines along the strip would look alike at every position of it."""
    height, width = surface.shape
    size = (max(2, width // SHRUNK), max(2, height // SHRUNK))
    small = cv2.resize(surface, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.asarray(small[1:, 1:] - small[1:, :-1] - small[:-1, 1:] + small[:-1, :-1], np.float32)


def _correlation(one: Float32s, other: Float32s) -> float:
    """Correlation of the median place."""
    found = []
    for a, b in zip(_places(one), _places(other), strict=True):
        power = float((a * a).sum()) * float((b * b).sum())
        found.append(float((a * b).sum()) / power**0.5 if power > 0 else 0.0)
    return float(np.median(found))


def _places(texture: Float32s) -> list[Float32s]:
    return [
        place
        for rows in np.array_split(texture, min(PLACES, len(texture)))
        for place in np.array_split(rows, min(PLACES, rows.shape[1]), axis=1)
    ]
