"""Delays between attempts."""

from edge.host.backoff import Backoff


def test_delays_double_up_to_the_limit():
    """Without luck: 1, 2, 4, then half of the limit, and never more than the limit with it."""
    backoff = Backoff(1.0, 10.0, lambda: 0.0)
    assert [backoff.next_s() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    lucky = Backoff(1.0, 10.0, lambda: 1.0)
    assert max(lucky.next_s() for _ in range(50)) == 10.0


def test_a_success_starts_anew():
    """After `reset` the next delay is a first one."""
    backoff = Backoff(0.5, 60.0, lambda: 0.5)
    first = backoff.next_s()
    backoff.next_s()
    backoff.reset()
    assert (backoff.next_s(), backoff.attempts) == (first, 1)


def test_backoff_doubles_with_jitter_up_to_its_limit():
    """1 to 2 s first, never above the limit, from the start again after a reset."""
    low = Backoff(1.0, 60.0, lambda: 0.0)
    high = Backoff(1.0, 60.0, lambda: 1.0)
    assert [low.next_s() for _ in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert [high.next_s() for _ in range(8)] == [2, 4, 8, 16, 32, 60, 60, 60]
    low.reset()
    assert low.next_s() == 1.0
