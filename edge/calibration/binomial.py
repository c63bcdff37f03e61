"""Exact binomial intervals of a share, k of n: the normal approximation is wrong near 0 and 1."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, lgamma, log, log1p
from typing import Final

CONFIDENCE: Final = 0.95
TOLERANCE: Final = 1e-12
"""Relative error of a bound."""
MAX_TERMS: Final = 100_000
"""Of the continued fraction, which needs about the square root of n."""
TINY: Final = 1e-300


def interval(k: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Two-sided bounds of the true share, for k of n.  Source: Clopper and Pearson, Biometrika 26 (1934) 404-413."""
    side = (1 + confidence) / 2
    return lower(k, n, side), upper(k, n, side)


def upper(k: int, n: int, confidence: float = CONFIDENCE) -> float:
    """The largest share at which k or fewer of n have a probability of 1 - confidence; 1 for n = 0."""
    _check(k, n, confidence)
    if k >= n:
        return 1.0
    return _crossing(lambda share: at_most(k, n, share), 1 - confidence)


def lower(k: int, n: int, confidence: float = CONFIDENCE) -> float:
    """The smallest share at which k or more of n have a probability of 1 - confidence; 0 for n = 0."""
    _check(k, n, confidence)
    if k == 0:
        return 0.0
    return _crossing(lambda share: 1 - incomplete_beta(share, k, n - k + 1), confidence)


def at_most(k: int, n: int, share: float) -> float:
    """Probability of k or fewer successes in n trials, each with this probability."""
    _check(k, n, 0.5)
    return 1.0 if k >= n else incomplete_beta(1 - share, n - k, k + 1)


def incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function.  Source: Press et al., Numerical Recipes, 6.4, Lentz's fraction."""
    if not 0 < x < 1:
        return min(1.0, max(0.0, x))
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(x, a, b) / a
    return 1 - front * _fraction(1 - x, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    c = 1.0
    d = 1 / _off_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, MAX_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        step = 1.0
        for term in (even, odd):
            d = 1 / _off_zero(1 + term * d)
            c = _off_zero(1 + term / c)
            step = c * d
            value *= step
        if abs(step - 1) < 1e-15:
            break
    return value


def _off_zero(value: float) -> float:
    return TINY if abs(value) < TINY else value


def _crossing(function: Callable[[float], float], level: float) -> float:
    """Where a function that falls from 1 at 0 to 0 at 1 crosses a level.  By bisection."""
    low, high = 0.0, 1.0
    while high - low > TOLERANCE * high:
        middle = (low + high) / 2
        if not low < middle < high:
            break
        low, high = (middle, high) if function(middle) > level else (low, middle)
    return (low + high) / 2


def _check(k: int, n: int, confidence: float) -> None:
    if not (0 <= k <= n and 0 < confidence < 1):
        raise ValueError(f"{k} of {n} with a confidence of {confidence} is not a share")
