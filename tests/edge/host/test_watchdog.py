"""The watchdog finds a loop that stands still, and does not blame one that rests or starves."""

from __future__ import annotations

import threading

from fakes.clock import FakeClock

from edge.host.watchdog import MAX_STEP_S, Watchdog


class FakeLoop:
    """A loop whose rounds a test makes."""

    def __init__(self) -> None:
        self.beat_ns = 0

    def turn(self) -> None:
        self.beat_ns += 1


def watched(limit_s: float = 10.0) -> tuple[FakeClock, dict[str, FakeLoop], Watchdog]:
    clock, loops = FakeClock(), {name: FakeLoop() for name in ("line", "recorder")}
    return clock, loops, Watchdog(lambda: loops, clock, limit_s)


def test_loop_that_stands_still_is_named_past_the_limit():
    """It is not named before the limit, and a loop that moves is not named at all."""
    clock, loops, watchdog = watched(limit_s=10.0)
    for step in range(1, 30):
        loops["line"].turn()
        clock.advance(0.5)
        found = watchdog.check()
        assert (found is not None) == ((step - 1) * 0.5 > 10.0)
    assert found is not None
    assert (found.name, found.still_s) == ("recorder", 14.0)


def test_loop_that_moves_again_starts_from_zero():
    """Each round resets the time of its loop."""
    clock, loops, watchdog = watched(limit_s=5.0)
    for _ in range(10):
        for _ in range(4):
            clock.advance(1.0)
            assert watchdog.check() is None
        for loop in loops.values():
            loop.turn()


def test_loop_that_is_removed_is_forgotten():
    """It is not reported while it is gone, and starts from zero when it comes back."""
    clock, loops, watchdog = watched(limit_s=3.0)
    removed = FakeLoop()
    for present in (True, False, True):
        if present:
            loops["other"] = removed
        else:
            del loops["other"]
        for _ in range(3):
            loops["line"].turn()
            loops["recorder"].turn()
            clock.advance(1.0)
            assert watchdog.check() is None


def test_process_that_stood_still_as_a_whole_blames_no_loop():
    """After SIGSTOP and a long sleep the watchdog runs first, and gives the loops time for a round."""
    clock, _, watchdog = watched(limit_s=MAX_STEP_S + 0.1)
    clock.advance(3600.0)
    assert watchdog.check() is None


def test_stack_of_a_loop_that_hangs_shows_where():
    """The stack of a real thread that waits for ever contains its function."""
    release = threading.Event()
    standing = threading.Event()

    def hang_here() -> None:
        standing.set()
        release.wait(30)

    thread = threading.Thread(target=hang_here, name="recorder", daemon=True)
    thread.start()
    try:
        assert standing.wait(5)
        clock, loops, watchdog = watched(limit_s=1.0)
        for _ in range(4):
            loops["line"].turn()
            clock.advance(0.5)
            found = watchdog.check()
        assert found is not None
        assert "hang_here" in found.stack
    finally:
        release.set()
        thread.join(5)


def test_watchdog_without_loops_reports_nothing():
    """No loop can hang when there is none."""
    clock = FakeClock()
    watchdog = Watchdog(dict, clock, 1.0)
    clock.advance(1.5)
    assert watchdog.check() is None
