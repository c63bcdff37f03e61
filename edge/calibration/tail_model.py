"""How often good surface looks stranger than a threshold: exactly, and beyond what was seen by extreme-value theory.

Peaks over a high threshold follow a generalised Pareto distribution (Pickands 1975; Coles 2001, chapter 4). Its shape
and scale are not fitted but averaged over what the peaks leave possible, so that a level is right on average over the
uncertainty, as the exact bounds are. All of it is about pieces of surface that are independent of each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edge.frame import Float64s

SHARE: Final = 0.1
"""Of the pieces: those above its quantile are peaks."""
MAX_PEAKS: Final = 400
MIN_PEAKS: Final = 10
SHAPES: Final = np.linspace(-0.2, 0.5, 43)
"""That are thought possible. Logarithms of distances have light tails, but no end that can be relied on."""
PRIOR: Final = 0.3
"""Sigma of the shape around 0, an exponential tail, before a peak is seen. Tried with 25, 100 and 1,000 normal,
exponential and log-normal (0.3, 0.6) pieces, for levels 3, 10 and 100 times rarer than these show, 100 draws each: none
was passed more often than asked on average, but one 1.16 times (1,000 of 0.6, 3 times rarer). They lie up to a fifth
lower than without it."""
SCALES: Final = np.exp(np.linspace(-1.6, 1.6, 81))
"""In units of the mean peak."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A probability per piece, and between what 90 % of the possible tails put it."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Tail:
    """The tail of the largest score in a piece.

    pieces: how many there were.  above: over what peaks are counted.  share: of the pieces that have one.
    shapes, scales, weights: (M,) the possible tails and how likely each is; together 1.
    """

    pieces: int
    above: float
    share: float
    shapes: Float64s
    scales: Float64s
    weights: Float64s

    @classmethod
    def of(cls, maxima: Float64s) -> Tail:
        """maxima: (N,) one for each piece, N >= 2 * MIN_PEAKS."""
        pieces = len(maxima)
        count = min(max(MIN_PEAKS, int(pieces * SHARE)), MAX_PEAKS)
        ordered = np.sort(maxima)
        above = float(ordered[pieces - count - 1])
        peaks = ordered[ordered > above] - above
        if len(peaks) == 0:  # all alike
            peaks = np.array([1e-6])
        scales = SCALES * float(peaks.mean())
        shape, scale = (grid.ravel() for grid in np.meshgrid(SHAPES, scales, indexing="ij"))
        likelihood = np.concatenate([_likelihood(peaks, float(one), scales) - (one / PRIOR) ** 2 / 2 for one in SHAPES])
        weights = np.exp(likelihood - likelihood.max())
        kept = weights > 1e-9
        weights = weights[kept] / weights[kept].sum()
        return cls(pieces, above, len(peaks) / pieces, shape[kept], scale[kept], weights)

    def beyond(self, level: float) -> Estimate:
        """How probable it is that a piece has a score above `level`, which is at least `above`."""
        each = self.share * _survival(max(0.0, level - self.above), self.shapes, self.scales)
        order = np.argsort(each)
        reached = np.cumsum(self.weights[order])
        low, high = np.searchsorted(reached, (0.05, 0.95)).clip(max=len(order) - 1)
        return Estimate(float(self.weights @ each), float(each[order[low]]), float(each[order[high]]))

    def level(self, probability: float) -> float:
        """What a piece exceeds with this probability, on average over the possible tails."""
        low, high = self.above, self.above + float(self.scales.max())
        if probability >= self.share:
            return low
        while self.beyond(high).mean > probability:
            high = self.above + 2 * (high - self.above)
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self.beyond(middle).mean > probability else (low, middle)
        return high


def _likelihood(peaks: Float64s, shape: float, scales: Float64s) -> Float64s:
    """(S,) logarithms of the likelihood of generalised Pareto distributions of one shape."""
    if abs(shape) < 1e-9:
        return np.asarray(-len(peaks) * np.log(scales) - peaks.sum() / scales)
    inside = 1 + shape * peaks / scales[:, None]
    possible = inside.min(axis=1) > 0
    sums = np.log(np.where(possible[:, None], inside, 1.0)).sum(axis=1)
    return np.asarray(np.where(possible, -len(peaks) * np.log(scales) - (1 + 1 / shape) * sums, -np.inf))


def _survival(excess: float, shapes: Float64s, scales: Float64s) -> Float64s:
    flat = np.abs(shapes) < 1e-9
    safe = np.where(flat, 1.0, shapes)
    inside = np.maximum(0.0, 1 + safe * excess / scales)
    with np.errstate(divide="ignore"):
        powers = np.where(inside > 0, inside ** (-1 / safe), 0.0)
    return np.asarray(np.where(flat, np.exp(-excess / scales), powers))


def conformal(maxima: Float64s, probability: float) -> float | None:
    """The lowest level that a further piece exceeds with at most this probability; None when there are too few pieces.

    It holds for any distribution, when the further piece and those that were seen might as well have come in any other
    order (split conformal prediction; Vovk, Gammerman and Shafer 2005).
    """
    allowed = math.floor(probability * (len(maxima) + 1) + 1e-9) - 1
    if allowed < 0:
        return None
    return float(np.sort(maxima)[len(maxima) - 1 - min(allowed, len(maxima) - 1)])


def conformal_share(scores: Float64s, pieces: npt.NDArray[np.intp], probability: float) -> float | None:
    """The lowest level that at most this share of a further piece's tiles exceeds, on average; None: too few pieces.

    scores: (N,) of tiles.  pieces: (N,) which piece each lies in.  Source: conformal risk control (Angelopoulos et al.
    2022): the further piece is taken to exceed it with all its tiles.
    """
    _, inverse, sizes = np.unique(pieces, return_inverse=True, return_counts=True)
    budget = probability * (len(sizes) + 1) - 1 + 1e-9
    if budget < 0:
        return None
    order = np.argsort(-scores, kind="stable")
    spent = np.cumsum(1 / sizes[inverse][order])
    allowed = int(np.searchsorted(spent, budget, side="right"))
    return float(scores[order[min(allowed, len(scores) - 1)]])


def confirmed(maxima: Float64s, runs: npt.NDArray[np.intp], k: int, n: int) -> Float64s:
    """The level up to which k of the last n frames exceed a threshold: the score that an alarm needs.

    maxima: (F,) largest score of each frame.  runs: (F,) which unbroken run of frames each is in.  Returns (F,).
    Wherever in the frame: an alarm needs them at one place, so there are at most as many.
    """
    if n == 1:
        return maxima
    held = np.full(len(maxima), -np.inf)
    for run in np.unique(runs):
        members = np.flatnonzero(runs == run)
        padded = np.concatenate((np.full(n - 1, -np.inf), maxima[members]))
        windows = np.lib.stride_tricks.sliding_window_view(padded, n)
        held[members] = np.sort(windows, axis=1)[:, n - k]
    return held


def memory(maxima: Float64s, runs: npt.NDArray[np.intp]) -> int:
    """For how many frames good surface resembles itself: the integrated autocorrelation of their largest scores."""
    if len(maxima) < 8:
        return 1
    centred = maxima - maxima.mean()
    power = float((centred * centred).mean())
    if power <= 0:
        return 1
    total = 1.0
    for lag in range(1, len(maxima) // 4):
        pairs = runs[lag:] == runs[:-lag]
        if pairs.sum() < 8:
            break
        correlation = float((centred[lag:] * centred[:-lag])[pairs].mean()) / power
        if correlation < 0.05:
            break
        total += 2 * correlation
    return max(1, math.ceil(total))


def pieces_of(runs: npt.NDArray[np.intp], length: int) -> npt.NDArray[np.intp]:
    """Which piece of up to `length` frames each frame lies in; a piece does not reach over the end of a run.  (F,)."""
    starts = np.flatnonzero(np.concatenate(([True], runs[1:] != runs[:-1])))
    since = np.arange(len(runs)) - np.repeat(starts, np.diff(np.concatenate((starts, [len(runs)]))))
    begins = (since % length) == 0
    return np.cumsum(begins) - 1
