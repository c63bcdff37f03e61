"""Delays between attempts."""

from edge.host.backoff import Backoff


def test_delays_double_up_to_the_limit():
    """They are 1, 2, 4 and half of the limit with the lowest jitter, and never above the limit with the highest."""
    backoff = Backoff(1.0, 10.0, lambda: 0.0)
    assert [backoff.next_s() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    longest = Backoff(1.0, 10.0, lambda: 1.0)
    assert max(longest.next_s() for _ in range(50)) == 10.0


def test_a_reset_starts_with_a_first_delay():
    """After `reset` the next delay is a first one."""
    backoff = Backoff(0.5, 60.0, lambda: 0.5)
    first = backoff.next_s()
    backoff.next_s()
    backoff.reset()
    assert (backoff.next_s(), backoff.attempts) == (first, 1)


def test_backoff_doubles_with_jitter_up_to_its_limit():
    """The first delay is 1 to 2 s, none is above the limit, and a reset starts again."""
    low = Backoff(1.0, 60.0, lambda: 0.0)
    high = Backoff(1.0, 60.0, lambda: 1.0)
    assert [low.next_s() for _ in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert [high.next_s() for _ in range(8)] == [2, 4, 8, 16, 32, 60, 60, 60]
    low.reset()
    assert low.next_s() == 1.0
