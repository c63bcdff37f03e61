"""Statistics of counts and scores: exact intervals, rates per class, calibration, AUROC, paired tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp  # type: ignore[import-untyped]
from scipy.stats import binomtest, rankdata  # type: ignore[import-untyped]

from edge.frame import Float64s
from edge.model.classifier import Scores

Bools = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int64]

LEVEL: Final = 0.95
"""Confidence level of every interval in every report."""
BINS: Final = 15
RESAMPLES: Final = 1000


@dataclass(frozen=True, slots=True)
class Count:
    """`right` of `of` predictions are correct; low, high: the exact (Clopper-Pearson) interval of the share."""

    right: int
    of: int
    low: float
    high: float

    @classmethod
    def exact(cls, right: int, of: int) -> Count:
        """Without data the interval is 0 to 1."""
        if not of:
            return cls(0, 0, 0.0, 1.0)
        interval = binomtest(int(right), int(of)).proportion_ci(LEVEL, "exact")
        return cls(int(right), int(of), round(float(interval.low), 5), round(float(interval.high), 5))

    @property
    def share(self) -> float:
        """NaN without data."""
        return self.right / self.of if self.of else float("nan")


@dataclass(frozen=True, slots=True)
class ClassRates:
    """One class.  precision: of the pictures predicted as it.  recall: of its pictures.  f1: harmonic mean, 0 to 1."""

    name: str
    precision: Count
    recall: Count
    f1: float


def confusion(truth: Labels, predicted: Labels, classes: int) -> Labels:
    """(classes, classes) int64: [true][predicted]."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (truth, predicted), 1)
    return matrix


def class_rates(matrix: Labels, names: Sequence[str]) -> tuple[ClassRates, ...]:
    """matrix: the result of `confusion`."""
    right, predicted, actual = matrix.diagonal(), matrix.sum(0), matrix.sum(1)
    return tuple(
        ClassRates(
            name,
            Count.exact(right[i], predicted[i]),
            Count.exact(right[i], actual[i]),
            round(2 * float(right[i]) / max(1, int(predicted[i] + actual[i])), 5),
        )
        for i, name in enumerate(names)
    )


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions of similar confidence.  confidence, right: mean confidence and accuracy."""

    low: float
    high: float
    n: int
    confidence: float
    right: float


def reliability(confidence: npt.ArrayLike, right: npt.ArrayLike, bins: int = BINS) -> tuple[Bin, ...]:
    """Bins of equal width from 0 to 1, without empty ones.  confidence, right: (N,)."""
    sure, correct = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    place = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    found = []
    for i in np.unique(place):
        inside = place == i
        means = round(float(sure[inside].mean()), 5), round(float(correct[inside].mean()), 5)
        found.append(Bin(round(i / bins, 5), round((i + 1) / bins, 5), int(inside.sum()), *means))
    return tuple(found)


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: mean distance of confidence and accuracy, 0 to 1.  NaN without data."""
    total = sum(b.n for b in bins)
    return sum(b.n * abs(b.confidence - b.right) for b in bins) / total if total else float("nan")


@dataclass(frozen=True, slots=True)
class Error:
    """An expected calibration error, 0 to 1.  low, high: bootstrap interval over pictures.

    Resampling adds noise of its own, which an error of this kind cannot lose: the interval leans upwards.
    """

    value: float
    low: float
    high: float


def calibration_error_equal_mass(confidence: npt.ArrayLike, right: npt.ArrayLike, *, seed: int = 0) -> Error:
    """In BINS bins with equally many predictions, at least one.  confidence, right: (N,), N >= 1."""
    sure, correct = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    order = np.argsort(sure, kind="stable")
    sure, apart = sure[order], (sure - correct)[order]
    every = np.arange(len(sure))[None]
    drawn = np.sort(np.random.default_rng(seed).integers(0, len(sure), (RESAMPLES, len(sure))), axis=1)
    low, high = np.quantile(_errors(apart[drawn]), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Error(round(float(_errors(apart[every])[0]), 5), round(float(low), 5), round(float(high), 5))


def unavoidable_error(confidence: npt.ArrayLike, *, seed: int = 0) -> float:
    """The mean error in equal-mass bins of a confidence that is the share of right predictions.  (N,), N >= 1."""
    sure = np.sort(np.asarray(confidence, np.float64))
    correct = np.random.default_rng(seed).random((RESAMPLES, len(sure))) < sure
    return round(float(_errors(sure - correct).mean()), 5)


def _errors(apart: Float64s) -> Float64s:
    """(R,) from (R, N) confidence minus correctness, by rising confidence."""
    starts = np.unique(np.linspace(0, apart.shape[1], BINS + 1).astype(np.int64)[:-1])
    return np.asarray(np.abs(np.add.reduceat(apart, starts, axis=1)).sum(axis=1) / apart.shape[1], np.float64)


@dataclass(frozen=True, slots=True)
class Ranking:
    """AUROC: how often a positive scores above a negative.  low, high: bootstrap interval over pictures."""

    auroc: float
    low: float
    high: float
    positives: int
    negatives: int


def auroc(positive: npt.ArrayLike, negative: npt.ArrayLike) -> float:
    """Ties count half.  positive, negative: (P,) and (N,) scores, neither empty."""
    up, down = np.asarray(positive, np.float64), np.asarray(negative, np.float64)
    ranks = rankdata(np.concatenate([up, down]))[: len(up)]
    return float((ranks.sum() - len(up) * (len(up) + 1) / 2) / (len(up) * len(down)))


def ranking(
    positive: npt.ArrayLike,
    negative: npt.ArrayLike,
    *,
    positive_from: Sequence[object] | None = None,
    negative_from: Sequence[object] | None = None,
    seed: int = 0,
) -> Ranking | None:
    """AUROC, bootstrapped over pictures because crops of one picture are correlated; None if a side is empty.

    positive_from, negative_from: the picture of each score; None: each score has a picture of its own.
    """
    up, down = np.asarray(positive, np.float64), np.asarray(negative, np.float64)
    if not len(up) or not len(down):
        return None
    rng = np.random.default_rng(seed)
    groups = [_groups(len(up), positive_from), _groups(len(down), negative_from)]
    found = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        drawn = [np.concatenate([own[g] for g in rng.integers(0, len(own), len(own))]) for own in groups]
        found[i] = auroc(up[drawn[0]], down[drawn[1]])
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Ranking(round(auroc(up, down), 5), round(float(low), 5), round(float(high), 5), len(up), len(down))


def _groups(count: int, origin: Sequence[object] | None) -> list[Labels]:
    place = np.arange(count)
    if origin is None:
        return [place[i : i + 1] for i in range(count)]
    return [place[np.asarray(origin) == one] for one in np.unique(np.asarray(origin))]


@dataclass(frozen=True, slots=True)
class Paired:
    """Two predictions for each of the same pictures.  p_value: McNemar's exact test, two-sided."""

    both: int
    only_first: int
    only_second: int
    neither: int
    p_value: float


def paired(first: Bools, second: Bools) -> Paired:
    """first, second: (N,) bool, which of the same pictures each predicted correctly."""
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    apart = only_first + only_second
    p = float(binomtest(only_first, apart).pvalue) if apart else 1.0
    return Paired(int((first & second).sum()), only_first, only_second, int((~first & ~second).sum()), round(p, 6))


def unknown_scores(scores: Scores) -> dict[str, Float64s]:
    """Open-set scores, (N,) each: high for a tile that resembles none of the trained classes."""
    logits = scores.logits.astype(np.float64)
    total = logsumexp(logits, axis=1)
    return {"energy": np.asarray(-total), "max-softmax": np.asarray(total - logits.max(1))}


def defect_log_odds(scores: Scores) -> Float64s:
    """(N,): log-odds of a defect against defect-free surface; without a `good` output, the negative energy."""
    total = logsumexp(scores.logits.astype(np.float64), axis=1)
    return np.asarray(total if scores.good is None else total - scores.good[:, 0])
