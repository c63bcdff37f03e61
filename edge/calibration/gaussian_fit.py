"""Gaussians of good surface from the outputs of the network, and scores of tiles that they were not fitted on."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from edge.errors import CalibrationError
from edge.frame import Bools, Float32s, Float64s, Indices
from edge.vision.anomaly import LOW_ODDS, ODDS, ODDS_UNIT, Gaussians, joined

SPLIT_FROM: Final = 4000
"""With this many tiles, one half is fitted and the other half is scored; with fewer, the fit is cross-validated."""
BLOCKS: Final = 10
"""Every second block is scored, the others are fitted."""
FOLDS: Final = 20
"""Of the cross-validation: a Gaussian of 19 folds is nearly the Gaussian of all."""
MAX_FITTED: Final = 20_000
"""Tiles."""
MIN_SPREAD: Final = 0.2
"""Minimum spread of a column, as a share of the median column's: a column that was constant on good surface must not
make its first small change a defect."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of each view.  names: of V views.  starts: (V,) first columns."""

    names: tuple[str, ...]
    starts: Indices

    @classmethod
    def of(cls, views: Mapping[str, Float32s]) -> Layout:
        widths = [view.shape[1] for view in views.values()]
        return cls(tuple(views), np.cumsum([0, *widths[:-1]], dtype=np.intp))


def fitted(values: Float32s, layout: Layout) -> Gaussians:
    """Fit Gaussians, and scale their distances on the same tiles.  values: (N, D)."""
    surface = _unscaled(values, layout)
    return _scaled(surface, *_scale(surface.logarithms(values), layout.names))


def scored(values: Float32s, layout: Layout, frame_of: Indices) -> tuple[Gaussians, Float32s, Bools]:
    """Fit Gaussians, and score tiles that they were not fitted on.

    values: (N, D).  frame_of: (N,) the frame of each tile.  Returns the Gaussians, (N,) scores, and (N,) bool: the
    tiles whose scores count.
    """
    count = len(frame_of)
    if count >= SPLIT_FROM:
        counted = _blocks(frame_of, BLOCKS) % 2 == 1
        surface = fitted(values[~counted], layout)
        return surface, surface.score(values), counted
    whole = np.ones(count, np.bool_)
    held_out, scale = _cross_validated(values, layout, frame_of, whole)
    return _scaled(_unscaled(values, layout), *scale), joined(held_out, *scale), whole


def robust_scores(values: Float32s, layout: Layout, frame_of: Indices) -> Float32s:
    """Score with Gaussians of the nine tenths that are most alike: a few defects must not widen them.  Returns (N,)."""
    if len(frame_of) < SPLIT_FROM:  # few tiles lie too close to a Gaussian that was fitted on them
        held_out, scale = _cross_validated(values, layout, frame_of, np.ones(len(frame_of), np.bool_))
        scores = joined(held_out, *scale)
        held_out, scale = _cross_validated(values, layout, frame_of, scores <= np.quantile(scores, 0.9))
        return joined(held_out, *scale)
    scores = fitted(values, layout).score(values)
    return fitted(values[scores <= np.quantile(scores, 0.9)], layout).score(values)


def _cross_validated(
    values: Float32s, layout: Layout, frame_of: Indices, usable: Bools
) -> tuple[Float32s, tuple[Float32s, Float32s]]:
    """(N, V) distances of each fold, with Gaussians of the usable tiles of the other folds; and the scale of them."""
    folds = _blocks(frame_of, FOLDS)
    held_out = np.empty((len(frame_of), len(layout.names)), np.float32)
    for fold in np.unique(folds):
        inside = folds == fold
        others = ~inside & usable
        if not others.any():
            raise CalibrationError("all tiles are of a few frames: several are needed")
        held_out[inside] = _unscaled(values[others], layout).logarithms(values[inside])
    return held_out, _scale(held_out[usable], layout.names)


def _unscaled(values: Float32s, layout: Layout) -> Gaussians:
    """Gaussians whose distances are not scaled yet."""
    columns, views = values.shape[1], len(layout.names)
    whitening, offset = np.zeros((columns, columns), np.float32), np.empty(columns, np.float32)
    some = values[:: max(1, len(values) // MAX_FITTED)]
    for start, end in itertools.pairwise([*layout.starts.tolist(), columns]):
        whitening[start:end, start:end], offset[start:end] = _gaussian(some[:, start:end])
    return Gaussians(
        layout.names, layout.starts, whitening, offset, np.ones(views, np.float32), np.zeros(views, np.float32)
    )


def _gaussian(values: Float32s) -> tuple[Float64s, Float64s]:
    """Whitening (D, D) and offset (D,) of a shrunk covariance.

    Source: Ledoit and Wolf, Journal of Multivariate Analysis 88 (2004) 365-411, on standardised columns.
    """
    wide = np.asarray(values, np.float64)
    count, size = wide.shape
    spread = wide.std(0)
    scale = np.maximum(spread, max(MIN_SPREAD * float(np.median(spread)), 1e-6))
    centre = wide.mean(0)
    columns = (wide - centre) / scale
    covariance = columns.T @ columns / count + np.diag(
        1 - (spread / scale) ** 2
    )  # columns with less spread: as if they had noise
    mean = float(np.trace(covariance)) / size
    apart = float(((covariance - mean * np.eye(size)) ** 2).sum())
    noise = float(((columns**2).sum(1) ** 2).mean() - (covariance**2).sum()) / count
    shrink = min(1.0, max(noise, 0.0) / apart) if apart > 0 else 1.0
    values_, vectors = np.linalg.eigh((1 - shrink) * covariance + shrink * mean * np.eye(size))
    whitening = vectors / np.sqrt(np.maximum(values_, 1e-6 * mean)) / scale[:, None]
    return whitening, centre @ whitening


def _scale(logarithms: Float32s, names: Sequence[str]) -> tuple[Float32s, Float32s]:
    """Gain and shift that put the median of each distance at 1 and its 90 % quantile at 2.

    Those of the odds are fixed.  logarithms: (N, V).  names: of the V views.
    """
    median, high = np.quantile(logarithms, (0.5, 0.9), axis=0).astype(np.float32)
    gain = 1 / np.maximum(np.float32(2e-3), high - median)
    shift = 1 - median * gain
    fixed = np.array([name == ODDS for name in names])
    gain[fixed], shift[fixed] = 1 / ODDS_UNIT, -LOW_ODDS / ODDS_UNIT
    return gain, shift


def _scaled(surface: Gaussians, gain: Float32s, shift: Float32s) -> Gaussians:
    return replace(surface, gain=gain, shift=shift)


def _blocks(frame_of: Indices, count: int) -> Indices:
    """(N,) 0 to count - 1: stretches of whole frames with about the same number of frames in each."""
    _, frames = np.unique(frame_of, return_inverse=True)
    return np.asarray(frames * count // (frames.max() + 1), np.intp)
