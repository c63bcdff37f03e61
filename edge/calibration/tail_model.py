"""How often the anomaly score of good surface exceeds a level: exact within the footage, extrapolated beyond it.

Peaks over a high threshold follow a generalised Pareto distribution (Pickands 1975; Coles 2001, chapter 4). Its shape
and scale are not fitted: the model averages over all values that the peaks leave possible, so that a level is right on
average over the uncertainty, as the exact bounds are. The unit is a piece of surface that is independent of the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edge.frame import Float64s

SHARE: Final = 0.1
"""Share of the pieces that are peaks."""
MAX_PEAKS: Final = 400
MIN_PEAKS: Final = 10
SHAPES: Final = np.linspace(-0.2, 0.5, 43)
"""Shapes that are considered. Logarithms of distances have light tails, but no reliable upper end."""
PRIOR: Final = 0.3
"""Sigma of the normal prior of the shape around 0, the exponential tail. Tested with 25, 100 and 1,000 normal,
exponential and log-normal (0.3, 0.6) pieces, for levels 3, 10 and 100 times rarer than the pieces show, 100 draws each:
on average no level was exceeded more often than allowed, except one by 1.16 times (1,000 of 0.6, 3 times rarer). Levels
are up to a fifth lower than without the prior."""
SCALES: Final = np.exp(np.linspace(-1.6, 1.6, 81))
"""In units of the mean peak over the threshold."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A probability per piece: the mean over the possible tails, and the interval of 90 % of them."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Tail:
    """The tail of the largest score in a piece.

    pieces: number of pieces.  above: the threshold that peaks exceed.  share: of the pieces that have a peak.
    shapes, scales, weights: (M,) the possible tails and their probabilities, which sum to 1.
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
        if len(peaks) == 0:  # all maxima are equal
            peaks = np.array([1e-6])
        scales = SCALES * float(peaks.mean())
        shape, scale = (grid.ravel() for grid in np.meshgrid(SHAPES, scales, indexing="ij"))
        likelihood = np.concatenate([_likelihood(peaks, float(one), scales) - (one / PRIOR) ** 2 / 2 for one in SHAPES])
        weights = np.exp(likelihood - likelihood.max())
        kept = weights > 1e-9
        weights = weights[kept] / weights[kept].sum()
        return cls(pieces, above, len(peaks) / pieces, shape[kept], scale[kept], weights)

    def beyond(self, level: float) -> Estimate:
        """Probability that a piece has a score above `level`, which is at least `above`."""
        each = self.share * _survival(max(0.0, level - self.above), self.shapes, self.scales)
        order = np.argsort(each)
        reached = np.cumsum(self.weights[order])
        low, high = np.searchsorted(reached, (0.05, 0.95)).clip(max=len(order) - 1)
        return Estimate(float(self.weights @ each), float(each[order[low]]), float(each[order[high]]))

    def level(self, probability: float) -> float:
        """The level that a piece exceeds with this probability, on average over the possible tails."""
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
    """(S,) log-likelihoods of generalised Pareto distributions of one shape."""
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

    It holds for any distribution, if the further piece and the measured ones are exchangeable (split conformal
    prediction; Vovk, Gammerman and Shafer 2005).
    """
    allowed = math.floor(probability * (len(maxima) + 1) + 1e-9) - 1
    if allowed < 0:
        return None
    return float(np.sort(maxima)[len(maxima) - 1 - min(allowed, len(maxima) - 1)])


def conformal_share(scores: Float64s, pieces: npt.NDArray[np.intp], probability: float) -> float | None:
    """The lowest level that, on average, at most this share of a further piece's tiles exceeds; None: too few pieces.

    scores: (N,) of tiles.  pieces: (N,) the piece of each tile.  Source: conformal risk control (Angelopoulos et al.
    2022): the bound assumes that all tiles of the further piece exceed the level.
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
    """The score at which an alarm is confirmed: k of the last n frames exceed every threshold below it.

    maxima: (F,) largest score of each frame.  runs: (F,) the unbroken run of each frame.  Returns (F,).  The place in
    the frame is ignored. A real alarm needs the k frames at one place, so this is an upper bound.
    """
    if n == 1:
        return maxima
    needed = np.full(len(maxima), -np.inf)
    for run in np.unique(runs):
        members = np.flatnonzero(runs == run)
        padded = np.concatenate((np.full(n - 1, -np.inf), maxima[members]))
        windows = np.lib.stride_tricks.sliding_window_view(padded, n)
        needed[members] = np.sort(windows, axis=1)[:, n - k]
    return needed


def correlation_length(maxima: Float64s, runs: npt.NDArray[np.intp]) -> int:
    """For how many frames good surface is correlated: the integrated autocorrelation of the largest scores."""
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
    """(F,) the piece of each frame.  A piece has up to `length` frames of one run."""
    starts = np.flatnonzero(np.concatenate(([True], runs[1:] != runs[:-1])))
    since = np.arange(len(runs)) - np.repeat(starts, np.diff(np.concatenate((starts, [len(runs)]))))
    is_first = (since % length) == 0
    return np.cumsum(is_first) - 1
