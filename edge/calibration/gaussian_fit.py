"""Gaussians of good surface from what the network says of tiles, and scores of tiles that they were not made of."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from edge.errors import CalibrationError
from edge.frame import Bools, Float32s, Float64s, Indices
from edge.vision.anomaly import Gaussians, joined

SPLIT_FROM: Final = 4000
"""Tiles from which on one half is fitted and the other half counted; below, part by part in turn."""
BLOCKS: Final = 10
FOLDS: Final = 20
"""In turn: with so many, a Gaussian of the others is nearly that of all."""
MAX_FITTED: Final = 20_000
MIN_SPREAD: Final = 0.2
"""Of the middle column's: one that never moved on good surface must not call its first faint movement a defect."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Which columns of the values belong to which view.  names: (V).  starts: (V,)."""

    names: tuple[str, ...]
    starts: Indices

    @classmethod
    def of(cls, views: Mapping[str, Float32s]) -> Layout:
        widths = [view.shape[1] for view in views.values()]
        return cls(tuple(views), np.cumsum([0, *widths[:-1]], dtype=np.intp))


def fitted(values: Float32s, layout: Layout) -> Gaussians:
    """Gaussians, and the unit of their distances from the same tiles."""
    surface = _unscaled(values, layout)
    return _scaled(surface, *_ruler(surface.logarithms(values)))


def scored(values: Float32s, layout: Layout, frame_of: Indices) -> tuple[Gaussians, Float32s, Bools]:
    """The Gaussians; scores of tiles that they were not made of; which those are."""
    count = len(frame_of)
    if count >= SPLIT_FROM:
        counted = _blocks(frame_of, BLOCKS) % 2 == 1
        surface = fitted(values[~counted], layout)
        return surface, surface.score(values), counted
    whole = np.ones(count, np.bool_)
    held, ruler = _in_turns(values, layout, frame_of, whole)
    return _scaled(_unscaled(values, layout), *ruler), joined(held, *ruler), whole


def strange(values: Float32s, layout: Layout, frame_of: Indices) -> Float32s:
    """Scores by Gaussians of the nine tenths that look most alike: a few defects must not hide themselves."""
    if len(frame_of) < SPLIT_FROM:  # a small Gaussian lies too near to what it was made of
        held, ruler = _in_turns(values, layout, frame_of, np.ones(len(frame_of), np.bool_))
        scores = joined(held, *ruler)
        held, ruler = _in_turns(values, layout, frame_of, scores <= np.quantile(scores, 0.9))
        return joined(held, *ruler)
    scores = fitted(values, layout).score(values)
    return fitted(values[scores <= np.quantile(scores, 0.9)], layout).score(values)


def _in_turns(
    values: Float32s, layout: Layout, frame_of: Indices, usable: Bools
) -> tuple[Float32s, tuple[Float32s, Float32s]]:
    """(N, V) distances of each part by what the others are like, as far as these are usable; and their unit."""
    folds = _blocks(frame_of, FOLDS)
    held = np.empty((len(frame_of), len(layout.names)), np.float32)
    for fold in np.unique(folds):
        inside = folds == fold
        others = ~inside & usable
        if not others.any():
            raise CalibrationError("all tiles are of a few frames: several are needed")
        held[inside] = _unscaled(values[others], layout).logarithms(values[inside])
    return held, _ruler(held[usable])


def _unscaled(values: Float32s, layout: Layout) -> Gaussians:
    """Gaussians whose distances are in no unit yet."""
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
    covariance = columns.T @ columns / count + np.diag(1 - (spread / scale) ** 2)  # what moved less: as if with noise
    mean = float(np.trace(covariance)) / size
    apart = float(((covariance - mean * np.eye(size)) ** 2).sum())
    noise = float(((columns**2).sum(1) ** 2).mean() - (covariance**2).sum()) / count
    shrink = min(1.0, max(noise, 0.0) / apart) if apart > 0 else 1.0
    values_, vectors = np.linalg.eigh((1 - shrink) * covariance + shrink * mean * np.eye(size))
    whitening = vectors / np.sqrt(np.maximum(values_, 1e-6 * mean)) / scale[:, None]
    return whitening, centre @ whitening


def _ruler(logarithms: Float32s) -> tuple[Float32s, Float32s]:
    """Gain and shift of each view, by which its middle is 1 and its last tenth begins at 2.  logarithms: (N, V)."""
    middle, tenth = np.quantile(logarithms, (0.5, 0.9), axis=0).astype(np.float32)
    gain = 1 / np.maximum(np.float32(2e-3), tenth - middle)
    return gain, 1 - middle * gain


def _scaled(surface: Gaussians, gain: Float32s, shift: Float32s) -> Gaussians:
    return replace(surface, gain=gain, shift=shift)


def _blocks(frame_of: Indices, count: int) -> Indices:
    """Stretches of whole frames, about as many tiles in each.  (N,) 0 to count - 1."""
    _, frames = np.unique(frame_of, return_inverse=True)
    return np.asarray(frames * count // (frames.max() + 1), np.intp)
