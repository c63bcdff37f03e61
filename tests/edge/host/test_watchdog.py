"""The watchdog: a loop that stands still is found, one that rests or starves is not."""

from __future__ import annotations

import threading

from fakes import FakeClock

from edge.host.watchdog import LOOK_MOST_S, Watchdog


class FakeLoop:
    """Goes round when it is told."""

    def __init__(self) -> None:
        self.beat_ns = 0

    def turn(self) -> None:
        self.beat_ns += 1


def watched(limit_s: float = 10.0) -> tuple[FakeClock, dict[str, FakeLoop], Watchdog]:
    clock, loops = FakeClock(), {name: FakeLoop() for name in ("line", "recorder")}
    return clock, loops, Watchdog(lambda: loops, clock, limit_s)


def test_loop_that_stands_still_is_named_past_the_limit():
    """Not before, and not the one that moves."""
    clock, loops, watchdog = watched(limit_s=10.0)
    for look in range(1, 30):
        loops["line"].turn()
        clock.advance(0.5)
        found = watchdog.look()
        assert (found is not None) == ((look - 1) * 0.5 > 10.0)
    assert found is not None
    assert (found.name, found.still_s) == ("recorder", 14.0)


def test_loop_that_moves_again_is_forgiven():
    """Each round starts its time anew."""
    clock, loops, watchdog = watched(limit_s=5.0)
    for _ in range(10):
        for _ in range(4):
            clock.advance(1.0)
            assert watchdog.look() is None
        for loop in loops.values():
            loop.turn()


def test_loop_that_is_gone_is_forgotten():
    """A view that a reload takes away is not missed, and begins anew when it comes back."""
    clock, loops, watchdog = watched(limit_s=3.0)
    view = FakeLoop()
    for present in (True, False, True):
        if present:
            loops["view"] = view
        else:
            del loops["view"]
        for _ in range(3):
            loops["line"].turn()
            loops["recorder"].turn()
            clock.advance(1.0)
            assert watchdog.look() is None


def test_process_that_stood_still_as_a_whole_blames_no_loop():
    """After SIGSTOP and a long sleep the watchdog comes first: the loops get their turn before they are judged."""
    clock, _, watchdog = watched(limit_s=LOOK_MOST_S + 0.1)
    clock.advance(3600.0)
    assert watchdog.look() is None


def test_trace_of_a_loop_that_hangs_says_where():
    """A real thread that waits for ever: its own function stands in the trace."""
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
            found = watchdog.look()
        assert found is not None
        assert "hang_here" in found.stack
    finally:
        release.set()
        thread.join(5)


def test_nothing_to_watch_is_no_fault():
    """Without loops there is no loop that hangs."""
    clock = FakeClock()
    watchdog = Watchdog(dict, clock, 1.0)
    clock.advance(1.5)
    assert watchdog.look() is None
