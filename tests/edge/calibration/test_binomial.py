"""Exact intervals of shares."""

from __future__ import annotations

from fractions import Fraction
from math import comb, log

import pytest

from edge.calibration import binomial


def at_most(k: int, n: int, share: float) -> float:
    p = Fraction(share)
    return float(sum(comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1)))


@pytest.mark.parametrize(("k", "n"), [(0, 1), (0, 10), (5, 100), (36, 72), (71, 72), (299, 300)])
@pytest.mark.parametrize("share", [1e-6, 0.01, 0.3, 0.5, 0.97])
def test_the_distribution_matches_exact_arithmetic(k: int, n: int, share: float) -> None:
    """Compared with the sum of exact fractions."""
    assert binomial.at_most(k, n, share) == pytest.approx(at_most(k, n, share), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(0, 10, 0.0, 0.308497), (5, 100, 0.016432, 0.112835), (72, 72, 0.950056, 1.0), (1, 2, 0.012579, 0.987421)],
)
def test_intervals_match_published_tables(k: int, n: int, low: float, high: float) -> None:
    """Clopper and Pearson, 95 %, two-sided."""
    assert binomial.interval(k, n) == pytest.approx((low, high), abs=1e-6)


def test_bounds_are_where_the_tail_has_the_given_probability() -> None:
    """The definition, with exact arithmetic."""
    high, low = binomial.upper(3, 60, 0.975), binomial.lower(3, 60, 0.975)
    assert at_most(3, 60, high) == pytest.approx(0.025, rel=1e-6)
    assert 1 - at_most(2, 60, low) == pytest.approx(0.025, rel=1e-6)


def test_two_million_trials_have_a_bound() -> None:
    """None in two million: the rule of three."""
    assert binomial.upper(0, 2_000_000) == pytest.approx(-log(0.05) / 2_000_000, rel=1e-5)
    assert binomial.upper(1_000_000, 2_000_000) == pytest.approx(0.50058, abs=1e-5)


def test_no_trial_leaves_every_share_possible() -> None:
    """n = 0 gives the interval from 0 to 1."""
    assert binomial.interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("k", "n", "confidence"), [(-1, 3, 0.9), (4, 3, 0.9), (1, 3, 1.0)])
def test_impossible_arguments_are_refused(k: int, n: int, confidence: float) -> None:
    """An error of the caller: ValueError."""
    with pytest.raises(ValueError, match="is not a share"):
        binomial.upper(k, n, confidence)
