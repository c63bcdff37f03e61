"""Coils with known truth for the search for roll marks: backgrounds, roll marks, and wrongly scaled positions.

Lengths in m along the strip, places across in mm.  All randomness comes from the generator that is given.
"""

from dataclasses import dataclass

import numpy as np

from edge.coverage.defect_bands import PlacedDefect

LENGTH_M = 300.0
WIDTH_MM = 1200.0


@dataclass(frozen=True)
class Truth:
    """One place of one roll that marks the strip, as it was drawn."""

    period_m: float
    across_mm: float


def background(rng, kind, per_m2=0.5):
    """Defects without a roll mark: (m, mm).  kind: poisson, clusters, scratches or edges."""
    area_m2 = LENGTH_M * WIDTH_MM / 1000
    if kind == "poisson":
        n = rng.poisson(per_m2 * area_m2)
        return rng.uniform(0, LENGTH_M, n), rng.uniform(0, WIDTH_MM, n)
    if kind == "clusters":
        xs, ys = [np.zeros(0)], [np.zeros(0)]
        for _ in range(rng.poisson(per_m2 * area_m2 / 8)):
            k = rng.poisson(8)
            xs.append(rng.uniform(0, LENGTH_M) + rng.normal(0, 0.4, k))
            ys.append(rng.uniform(0, WIDTH_MM) + rng.normal(0, 25, k))
        return np.clip(np.concatenate(xs), 0, LENGTH_M), np.clip(np.concatenate(ys), 0, WIDTH_MM)
    x, y = background(rng, "poisson", per_m2)
    if kind == "scratches":  # broken ones at one place across: what resembles a roll mark most
        for _ in range(3):
            start = rng.uniform(0, LENGTH_M * 0.6)
            end, gap = start + rng.uniform(20, LENGTH_M * 0.4), rng.uniform(0.4, 2.0)
            at = start + np.cumsum(rng.gamma(2, gap / 2, int((end - start) / gap) + 1))
            at = at[at < end]
            x, y = np.r_[x, at], np.r_[y, rng.uniform(0, WIDTH_MM) + rng.normal(0, 3, len(at))]
        return x, y
    for n, edge in zip(rng.poisson(LENGTH_M, 2), (8.0, WIDTH_MM - 8), strict=True):
        x, y = np.r_[x, rng.uniform(0, LENGTH_M, n)], np.r_[y, edge + rng.normal(0, 4, n)]
    return x, y


def warped(rng, x, constant=0.003, wander=0.001, reach_m=8.0):
    """The positions as they are reported: a constant error of the scale, and one that wanders (one sigma each)."""
    grid = np.arange(0, LENGTH_M + 20, 0.1)
    keep = np.exp(-0.1 / reach_m)
    steps = rng.normal(0, 1, len(grid)) * wander * np.sqrt(1 - keep * keep)
    error = np.zeros(len(grid))
    for i in range(1, len(grid)):
        error[i] = keep * error[i - 1] + steps[i]
    scale = 1 + rng.normal(0, constant) + error
    return np.interp(x, grid, np.concatenate([[0], np.cumsum(scale[:-1] * 0.1)]))


def marks(rng, truth, turns, seen=0.9, jitter_mm=3.0, wander_mm=6.0):
    """The marks of a roll over so many turns, of which a share is seen: (m, mm)."""
    start = rng.uniform(5, max(6.0, LENGTH_M - turns * truth.period_m - 5))
    is_seen = rng.random(turns) < seen
    x = start + truth.period_m * np.arange(turns)
    y = truth.across_mm + rng.normal(0, 2, turns) + wander_mm * np.sin(2 * np.pi * x / 40 + rng.uniform(0, 6.28))
    return (x + rng.normal(0, jitter_mm / 1000, turns))[is_seen], y[is_seen]


def any_truth(rng, turns):
    """A place and a period that fit on the coil."""
    period_m = float(np.exp(rng.uniform(np.log(0.5), np.log(5))))
    return Truth(min(period_m, 280 / turns), float(rng.uniform(60, WIDTH_MM - 60)))


def placed(x, y):
    """The arrays as defects, numbered in their order from 1."""
    return [PlacedDefect(i, float(m), float(mm)) for i, (m, mm) in enumerate(zip(x, y, strict=True), 1)]


def has(found, truth):
    """Whether one of the marks is the true one."""
    return any(
        abs(mark.period_m / truth.period_m - 1) < 0.015 and abs(mark.across_mm - truth.across_mm) < 40 for mark in found
    )
