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
def test_the_distribution_is_that_of_whole_numbers(k: int, n: int, share: float) -> None:
    """Against the sum of exact fractions."""
    assert binomial.at_most(k, n, share) == pytest.approx(at_most(k, n, share), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(0, 10, 0.0, 0.308497), (5, 100, 0.016432, 0.112835), (72, 72, 0.950056, 1.0), (1, 2, 0.012579, 0.987421)],
)
def test_intervals_are_those_of_the_tables(k: int, n: int, low: float, high: float) -> None:
    """Clopper and Pearson, 95 %, two-sided."""
    assert binomial.interval(k, n) == pytest.approx((low, high), abs=1e-6)


def test_bounds_are_where_the_tail_is_as_rare_as_was_said() -> None:
    """The definition itself, with whole numbers."""
    high, low = binomial.upper(3, 60, 0.975), binomial.lower(3, 60, 0.975)
    assert at_most(3, 60, high) == pytest.approx(0.025, rel=1e-6)
    assert 1 - at_most(2, 60, low) == pytest.approx(0.025, rel=1e-6)


def test_a_rate_beyond_all_tiles_of_an_hour_has_a_bound() -> None:
    """None in two million: the rule of three, and quickly."""
    assert binomial.upper(0, 2_000_000) == pytest.approx(-log(0.05) / 2_000_000, rel=1e-5)
    assert binomial.upper(1_000_000, 2_000_000) == pytest.approx(0.50058, abs=1e-5)


def test_nothing_seen_says_nothing() -> None:
    """n = 0 leaves everything open."""
    assert binomial.interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("k", "n", "confidence"), [(-1, 3, 0.9), (4, 3, 0.9), (1, 3, 1.0)])
def test_what_is_no_share_is_refused(k: int, n: int, confidence: float) -> None:
    """A mistake of the caller."""
    with pytest.raises(ValueError, match="is not a share"):
        binomial.upper(k, n, confidence)
