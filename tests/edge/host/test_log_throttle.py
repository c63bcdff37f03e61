"""Throttling of repeated log messages."""

import logging

from edge.host.clock import NS_PER_S
from edge.host.log_throttle import MAX_KEYS, LogThrottle

log = logging.getLogger("edge.test")


def test_a_repeated_message_is_logged_once_per_interval_with_the_count(caplog):
    """Four within a minute make one line; the next minute's line names the three that were left out."""
    throttle = LogThrottle(log, interval_s=60.0)
    with caplog.at_level(logging.WARNING):
        written = [throttle.write(logging.WARNING, "no route", second * NS_PER_S) for second in (0, 1, 2, 59, 60)]
    assert written == [True, False, False, False, True]
    assert caplog.messages == ["no route", "no route (3 more times since)"]


def test_other_messages_are_not_held_back():
    """Each key has its own interval."""
    throttle = LogThrottle(log)
    assert [throttle.ready(key, 0) for key in "aba"] == [0, 0, None]


def test_number_of_keys_is_bounded():
    """Messages that always differ do not fill the memory."""
    throttle = LogThrottle(log)
    assert all(throttle.ready(str(n), 0) == 0 for n in range(10 * MAX_KEYS))
    assert len(throttle._seen) <= MAX_KEYS
