"""Is footage in focus? Measured by how gray values decorrelate with distance, independent of the noise.

The mean squared difference of two pixels k apart is the sum of a part of the surface and a part of the sensor's noise.
The noise part is the same at every k, so it cancels in the difference of two such means. In a sharp image most of the
change between a pixel and the fourth from it is already there at the second. Behind a blurring lens the change grows
with the square of the distance: at the second pixel it is a fifth.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from edge.frame import Float64s, Gray

STEPS: Final = (1, 2, 4)
ROWS: Final = 96
"""Rows that are measured in each frame, at most, evenly spread."""
FAINT: Final = 0.3
"""Change from the first pixel to the fourth, gray levels squared: with less there is no texture to measure."""
SOFT: Final = 0.29
"""Steel of three mills had 0.46 to 0.82; blurred with a sigma of 2 px it had 0.23 to 0.27, without noise and with noise
of 5 gray levels."""


@dataclass(slots=True)
class FocusCheck:
    """Sums the change over 1, 2 and 4 pixels, across and down, over frames."""

    _changes: Float64s = field(default_factory=lambda: np.zeros((2, len(STEPS))))
    _frames: int = 0

    def add(self, image: Gray) -> None:
        """Measure a frame.  image: (H, W) uint8; a frame below 8 px in either direction is left out."""
        if min(image.shape) < 2 * STEPS[-1]:
            return
        rows = np.unique(np.linspace(0, image.shape[0] - 1 - STEPS[-1], ROWS).astype(np.intp))
        here = image[rows].astype(np.int16)
        for place, step in enumerate(STEPS):
            across = here[:, step:] - here[:, :-step]
            down = image[rows + step].astype(np.int16) - here
            self._changes[0, place] += np.square(across, dtype=np.int32).mean()
            self._changes[1, place] += np.square(down, dtype=np.int32).mean()
        self._frames += 1

    @property
    def sharpness(self) -> float | None:
        """0.2 for a blurred image, up to 1 for texture as fine as the pixels; None without texture.

        The sharper direction counts: motion during the exposure blurs only the other.
        """
        one, two, four = self._changes.T / max(1, self._frames)
        has_texture = four - one > FAINT
        if not has_texture.any():
            return None
        return float(((two - one)[has_texture] / (four - one)[has_texture]).max())

    @property
    def is_soft(self) -> bool:
        return self.sharpness is not None and self.sharpness < SOFT
