"""Is this a picture of a surface at all? Looked at before the network sees a pixel."""

from __future__ import annotations

from typing import Final

import numpy as np

from edge.frame import Gray

STEP_PX: Final = 7
"""Every seventh pixel each way is enough to see a covered lens, and odd so that it meets no regular pattern."""
DARK: Final = 6.0
BRIGHT: Final = 249.0
FLAT: Final = 0.5


def ailment(image: Gray) -> str | None:
    """Why this picture cannot be judged, or None.

    image: (H, W) uint8.  Black and saturated pictures are told by their mean; a picture without the least
    texture (standard deviation below half a grey level) comes from no sensor, whatever its brightness.
    """
    sample = image[::STEP_PX, ::STEP_PX]
    mean = float(np.mean(sample))
    if mean < DARK:
        return "dark"
    if mean > BRIGHT:
        return "saturated"
    if float(np.std(sample)) < FLAT:
        return "blank"
    return None
