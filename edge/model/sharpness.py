"""From the probabilities by which tiles are decided to the confidence that is published.

Thresholds hold for probabilities that are cautious on purpose: their temperature is fitted on defect-free surface, too,
and parts of a defect at the edge of a tile must not get a name of their own. As the confidence of a defect that was
found they are too low. A power of them, fitted on pictures that the network was not trained on, is not. The likeliest
class stays the same, and so do all decisions.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from edge.frame import Float32s

MIN_SHARPNESS: Final = 0.25
MAX_SHARPNESS: Final = 4.0


def sharpened(probabilities: Float32s, sharpness: float, *, has_good: bool) -> Float32s:
    """The softmax at temperature / sharpness, from that at the temperature.  Returns (N, classes) float32.

    probabilities: (N, classes) float32.  has_good: what a row lacks to 1 is the probability of "no defect".
    """
    if sharpness == 1.0:
        return probabilities
    powers = np.power(probabilities, np.float32(sharpness))
    total = np.add.reduce(powers, 1, keepdims=True)
    if has_good:
        rest = np.maximum(1 - np.add.reduce(probabilities, 1, keepdims=True), 0)
        total += np.power(rest, np.float32(sharpness))
    return np.asarray(powers / np.maximum(total, np.float32(1e-30)), np.float32)
