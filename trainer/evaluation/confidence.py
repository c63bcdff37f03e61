"""The confidence that the daemon publishes: fitted on pictures that no network was trained on, and judged on others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from edge.frame import Float32s, Float64s
from edge.model.sharpness import MAX_SHARPNESS, MIN_SHARPNESS, sharpened
from trainer.evaluation.statistics import Bools, Error, Labels, calibration_error_equal_mass, unavoidable_error

STEPS: Final = 97
"""Between the smallest and the largest sharpness."""
LEAST: Final = 1e-6
"""A probability below it counts as this: one picture must not decide alone."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration error of the published confidence, in 15 bins of equal mass, before and after it was sharpened.

    before: of the probabilities by which tiles are decided.  expected: of a confidence without any error, on as many
    pictures.  how: where the sharpness comes from.
    """

    n: int
    before: Error
    after: Error
    expected: float
    sharpness: float
    how: str


def has_good(probabilities: Float32s) -> bool:
    """Whether rows sum to below 1, because the network has a `good` output."""
    return bool((probabilities.sum(1) < 1 - 1e-4).any())


def published(probabilities: Float32s, sharpness: float) -> Float32s:
    """(N, classes): as the daemon publishes them."""
    return sharpened(probabilities, sharpness, has_good=has_good(probabilities))


def fit_sharpness(probabilities: Float32s, truth: Labels) -> float:
    """The sharpness with the lowest negative log-likelihood of the true classes.  1 without pictures.

    As if one picture more were wrong (Platt, 1999): where all are right, the largest sharpness would always win.
    """
    if not len(truth):
        return 1.0
    good, doubt = has_good(probabilities), 1 / (len(truth) + 2)
    candidates = np.exp(np.linspace(np.log(MIN_SHARPNESS), np.log(MAX_SHARPNESS), STEPS))
    rows = np.arange(len(truth))

    def loss(sharpness: float) -> float:
        own = sharpened(probabilities, sharpness, has_good=good)[rows, truth].astype(np.float64)
        right, wrong = (np.log(np.maximum(p, LEAST)).mean() for p in (own, 1 - own))
        return float((doubt - 1) * right - doubt * wrong)

    return round(float(min(candidates, key=loss)), 3)


def cross_fitted(probabilities: Float32s, truth: Labels, fold: Labels) -> Float32s:
    """(N, classes): each fold's rows as published, with the sharpness that was fitted on the other folds."""
    found = np.empty_like(probabilities)
    for one in np.unique(fold):
        own = fold == one
        found[own] = published(probabilities[own], fit_sharpness(probabilities[~own], truth[~own]))
    return found


def calibration(before: Float32s, after: Float32s, right: Bools, *, sharpness: float, how: str) -> Calibration:
    """before, after: (N, classes), N >= 1.  right: (N,), whether the likeliest class is the true one."""
    decided, shown = (_confidence(p) for p in (before, after))
    return Calibration(
        len(right),
        calibration_error_equal_mass(decided, right),
        calibration_error_equal_mass(shown, right),
        unavoidable_error(shown),
        sharpness,
        how,
    )


def _confidence(probabilities: Float32s) -> Float64s:
    return np.asarray(probabilities.max(1), np.float64)
