"""Intervals of figures over pictures, for the benches: tiles of one picture stand and fall together."""

from __future__ import annotations

import numpy as np

RESAMPLES = 1000


def resampled(pictures, figure, seed=0):
    """The figure on all tiles, and its 95 % interval over pictures.  figure: of row numbers; may be NaN."""
    rng, groups = np.random.default_rng(seed), [np.flatnonzero(pictures == one) for one in np.unique(pictures)]
    drawn = [
        figure(np.concatenate([groups[i] for i in rng.integers(0, len(groups), len(groups))])) for _ in range(RESAMPLES)
    ]
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return f"{figure(np.arange(len(pictures))):.3f} [{low:.3f} {high:.3f}]"
