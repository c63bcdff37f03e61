"""Is footage in focus? Told by how quickly gray values lose each other from pixel to pixel, whatever the noise.

The mean squared difference of two pixels k apart is that of the surface plus that of the sensor's noise, and noise is
the same at every k: differences of such means are of the surface alone. On a sharp picture most of the change from one
pixel to the fourth is there at the second; where a lens smears, change grows with the square of the distance, and the
second pixel has a fifth of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from edge.frame import Float64s, Gray

STEPS: Final = (1, 2, 4)
ROWS: Final = 96
"""Looked at in each frame, at most, evenly spread."""
FAINT: Final = 0.3
"""Gray levels squared from the first pixel to the fourth: with less there is no texture to be sharp."""
SOFT: Final = 0.29
"""Steel of three mills had 0.46 to 0.82; smeared with a sigma of 2 px 0.23 to 0.27, without noise and with 5 levels."""


@dataclass(slots=True)
class Focus:
    """Change over 1, 2 and 4 pixels, across and down, summed over frames."""

    _changes: Float64s = field(default_factory=lambda: np.zeros((2, len(STEPS))))
    _frames: int = 0

    def see(self, image: Gray) -> None:
        """Take in a frame.  image: (H, W) uint8; at least 8 px each way, else it is left out."""
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
        """0.2 where all is smeared, towards 1 for texture as fine as pixels; None where there is none to tell by.

        Of the sharper direction: a strip that moves while the shutter is open smears the other.
        """
        one, two, four = self._changes.T / max(1, self._frames)
        told = four - one > FAINT
        if not told.any():
            return None
        return float(((two - one)[told] / (four - one)[told]).max())

    @property
    def is_soft(self) -> bool:
        return self.sharpness is not None and self.sharpness < SOFT
