"""A stop gives each part its time, and goes on whatever a part does."""

from __future__ import annotations

import logging

import pytest
from fakes.clock import FakeClock

from edge.host.clock import NS_PER_S
from edge.host.stop_sequence import MIN_STEP_S, StopSequence


def test_part_that_raises_or_hangs_does_not_keep_the_next_ones_from_their_stop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Both are named; the parts after them are stopped all the same."""
    clock = FakeClock()
    stop = StopSequence(clock, clock.monotonic_ns() + 10 * NS_PER_S)
    stopped: list[float] = []

    def fail(_left_s: float) -> None:
        raise PermissionError("the folder is gone")

    with caplog.at_level(logging.ERROR):
        assert not stop.step("console", 1.0, fail)
        assert not stop.step("cameras", 1.0, lambda _: False)
        stop.act("saving", lambda: fail(0.0))
        assert stop.step("recorder", 2.0, stopped.append)
    assert stopped == [2.0]
    assert stop.left_behind == ["console", "cameras"]
    assert "the folder is gone" in caplog.text
    assert "cameras still runs" in caplog.text


def test_parts_share_the_time_of_the_whole_stop() -> None:
    """A part gets what is left, and at least a moment."""
    clock = FakeClock()
    stop = StopSequence(clock, clock.monotonic_ns() + 3 * NS_PER_S)
    limits: list[float] = []
    for _ in range(3):
        stop.step("a part", 2.0, limits.append)
        clock.advance(2.0)
    assert limits == pytest.approx([2.0, 1.0, MIN_STEP_S])
