"""Whether the strip moves: footage of one piece of it says nothing of the others, however many frames it has.

Frames some time apart are compared by their texture, place for place. Where the strip has moved they have nothing in
common; where it stands they do, as far as the noise of the sensor lets them.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from edge.errors import CalibrationError
from edge.frame import Float32s, Gray

EVERY: Final = 8
"""Frames from one that is looked at to the next: a strip that creeps has moved by then."""
SHRUNK: Final = 4
"""Times smaller than the frame, which leaves texture and takes noise."""
PLACES: Final = 6
"""Each way; an edge or a caption that stands still is in few of them."""
STILL: Final = 0.3
"""Correlation. Real steel that moved by 24 px has up to 0.06, that stands 0.45 to 0.93 with noise of 4 gray levels."""


class Stillness:
    """Looks at the surface of frame after frame."""

    def __init__(self) -> None:
        self._seen = 0
        self._before: Float32s | None = None
        self._alike: list[float] = []

    def see(self, surface: Gray) -> None:
        """The next frame.  surface: (H, W) uint8; of another size it is not compared."""
        if self._seen % EVERY == 0:
            texture = _texture(surface)
            if self._before is not None and self._before.shape == texture.shape:
                self._alike.append(_correlation(self._before, texture))
            self._before = texture
        self._seen += 1

    def check(self) -> None:
        """Raises CalibrationError when most frames showed the same surface."""
        if self._alike and float(np.median(self._alike)) > STILL:
            raise CalibrationError(
                "the frames repeat, they show the same surface: the strip must move, or only one piece of it is "
                "calibrated"
            )


def _texture(surface: Gray) -> Float32s:
    """Change along both sides at once: lines along the strip look alike wherever it is."""
    height, width = surface.shape
    size = (max(2, width // SHRUNK), max(2, height // SHRUNK))
    small = cv2.resize(surface, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.asarray(small[1:, 1:] - small[1:, :-1] - small[:-1, 1:] + small[:-1, :-1], np.float32)


def _correlation(one: Float32s, other: Float32s) -> float:
    """Of the median place."""
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
