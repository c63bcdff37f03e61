"""Does a camera still look like what was calibrated? Its figures over minutes against those of good footage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edge.calibration import Features, Made, Reference, Spread
from edge.vision.health import Sight

Floats = npt.NDArray[np.float32]


def median_distance(features: Floats, known: Features) -> float:
    """How far the median tile of one frame lies from good ones, in standard deviations of a feature.

    features: (N, F) float32 of `Scores`, N >= 1.  Raises ValueError for another number of features.
    """
    off = (features - np.array(known.mean, np.float32)) / np.array(known.scale, np.float32)
    return float(np.median(np.sqrt(np.mean(off * off, axis=1))))


def features_of(tiles: Floats, network: str) -> Features:
    """Mean and scale of the features of good tiles.  tiles: (N, F) float32, N >= 2.

    network: sha256 of the fp32 one.
    """
    scale = np.maximum(tiles.std(axis=0, dtype=np.float64), 1e-6)
    mean = tiles.mean(axis=0, dtype=np.float64)
    return Features(network=network, mean=tuple(map(_short, mean)), scale=tuple(map(_short, scale)))


def reference(
    sights: Sequence[Sight],
    made: Made,
    *,
    distances: Sequence[float] = (),
    features: Features | None = None,
    unsure: float | None = None,
) -> Reference:
    """From good frames to what is compared with.

    sights: `health.sight` of what is inspected of each frame, at least one.  distances: `median_distance` of each
    frame by these features, or none.  unsure: share of the frames.
    """
    return Reference(
        brightness=spread([one.brightness for one in sights]),
        sharpness=spread([one.sharpness for one in sights]),
        distance=spread(distances) if features is not None else None,
        features=features,
        unsure=unsure,
        made=made,
    )


def spread(values: Sequence[float]) -> Spread:
    """Quantiles of at least one value."""
    low, middle, high = np.quantile(np.asarray(values, np.float64), (0.01, 0.5, 0.99))
    return Spread(low=_short(low), middle=_short(middle), high=_short(high))


def _short(value: float) -> float:
    """Six digits: a file for people."""
    return float(f"{value:.6g}")
