"""A rate limit with bursts."""

from edge.host.clock import NS_PER_S
from edge.host.token_bucket import TokenBucket


def test_a_burst_passes_and_then_the_rate_limits():
    """Three tokens pass at once, then one each half second."""
    bucket = TokenBucket(2.0, 3, 0)
    assert [bucket.take(0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(NS_PER_S // 2), bucket.take(NS_PER_S // 2)] == [True, False]


def test_a_rest_refills_no_more_than_the_capacity():
    """After an hour there is one burst, not thousands of tokens."""
    bucket = TokenBucket(2.0, 3, 0)
    assert [bucket.take(3600 * NS_PER_S) for _ in range(5)] == [True, True, True, False, False]


def test_rate_can_be_changed():
    """A reload sets another rate."""
    bucket = TokenBucket(0.0, 1, 0)
    bucket.take(0)
    assert not bucket.take(100 * NS_PER_S)
    bucket.per_s = 1.0
    assert bucket.take(101 * NS_PER_S)
