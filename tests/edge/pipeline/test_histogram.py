"""Durations counted into buckets."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.pipeline.histogram import LARGEST_US, Histogram, Summary


def histogram(durations_us):
    counted = Histogram()
    for us in durations_us:
        counted.add(us * 1000)
    return counted


@given(st.lists(st.integers(0, LARGEST_US), min_size=1, max_size=300), st.sampled_from([0, 0.01, 0.5, 0.95, 0.99, 1]))
def test_quantile_is_within_a_32nd_of_the_true_one(durations_us, share):
    """Every quantile lies at or at most 1/32 above numpy's, for any durations."""
    found_us = histogram(durations_us).quantile_ms(share) * 1000
    true_us = float(np.percentile(durations_us, share * 100, method="inverted_cdf"))
    assert true_us - 1e-6 <= found_us <= true_us * (1 + 1 / 32) + 1e-6


def test_quantile_of_many_real_durations_agrees_with_numpy():
    """A long-tailed day of latencies: p50 to p99.9 are within 1/32."""
    durations_us = np.random.default_rng(1).lognormal(8, 0.7, 20_000).astype(int)
    counted = histogram(durations_us.tolist())
    for share in (0.5, 0.95, 0.99, 0.999):
        true_us = np.percentile(durations_us, share * 100, method="inverted_cdf")
        assert true_us <= counted.quantile_ms(share) * 1000 <= true_us * (1 + 1 / 32)


def test_quantile_rank_is_not_off_by_rounding():
    """0.07 of 100 is the seventh value, though 0.07 * 100 is a little above 7 in binary."""
    assert histogram(range(1, 101)).quantile_ms(0.07) == 0.007


@given(st.integers(0, LARGEST_US))
def test_quantile_of_one_duration_is_that_duration(us):
    """No quantile exceeds the known maximum, although the upper end of its bucket may."""
    assert histogram([us]).quantile_ms(0.5) == us / 1000


def test_negative_duration_counts_as_zero():
    """A clock's hiccup is counted, not raised and not lost."""
    counted = Histogram()
    counted.add(-5)
    assert (len(counted), counted.quantile_ms(1), counted.summary().max) == (1, 0.0, 0.0)


def test_huge_duration_counts_as_the_largest():
    """A year takes no new kind of bucket."""
    counted = histogram([10**15])
    assert counted.summary().max == LARGEST_US / 1000


def test_histogram_memory_is_bounded():
    """However many durations of whatever length, there are at most 32 buckets per octave."""
    counted = Histogram()
    for us in np.random.default_rng(2).integers(0, LARGEST_US, 20_000).tolist():
        counted.add(us * 1000)
    for octave in range(37):
        for sub in range(64):
            counted.add(((1 << octave) + (sub << octave) // 64) * 1000)
    assert len(counted._counts) <= 32 * 38


@given(st.integers(0, LARGEST_US - 1))
def test_longer_durations_never_fall_into_lower_buckets(us):
    """Buckets keep the order of durations."""
    assert histogram([us, us, us + 1]).quantile_ms(0.5) <= histogram([us, us + 1, us + 1]).quantile_ms(0.5)


def test_empty_histogram_gives_zero():
    """Nothing counted is 0 everywhere, not an error."""
    summary = Histogram().summary()
    assert (summary.n, summary.p50, summary.p999, summary.max) == (0, 0.0, 0.0, 0.0)


def test_cleared_histogram_is_empty():
    """After `clear` nothing is left of what was counted."""
    counted = histogram([5, 500])
    counted.clear()
    assert len(counted) == 0
    assert counted.summary().max == 0.0


def test_summary_is_in_order():
    """p50, p95, p99, p99.9 and the maximum never fall."""
    summary = histogram(range(1000)).summary()
    values = [summary.p50, summary.p95, summary.p99, summary.p999, summary.max]
    assert values == sorted(values)
    assert summary.n == 1000
    assert values[-1] == pytest.approx(0.999)
    assert all(math.isfinite(v) for v in values)


def test_window_is_what_came_since_the_last_look():
    """A reader keeps the earlier counts, so that no thread clears a histogram that another thread fills."""
    counted = Histogram()
    for ms in range(1, 101):
        counted.add(ms * 1_000_000)
    before = counted.counts()
    for _ in range(10):
        counted.add(7_000_000)
    window = counted.counts().since(before).summary()
    assert window.n == 10
    assert window.p50 == pytest.approx(7, rel=0.03)
    assert window.max == pytest.approx(7, rel=0.03)
    assert counted.counts().since(counted.counts()).summary() == Summary(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert counted.summary().max == 100


def test_counts_below_limits_are_never_too_high():
    """A limit counts the values that are surely below it, and the last limit counts all."""
    counted = Histogram()
    for ms in (1, 2, 5, 50):
        counted.add(ms * 1_000_000)
    assert counted.counts().below([0.5, 1.1, 3, 20, 1000]) == [0, 1, 2, 3, 4]
