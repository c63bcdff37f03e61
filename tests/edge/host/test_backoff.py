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
