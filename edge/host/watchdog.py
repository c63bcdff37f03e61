"""Finds loops that hang: each loop stamps its rounds, and a stamp that stands still is a fault.

A loop never waits longer than about a second for a camera, a broker or a disk that is away, so none of these looks
like a loop that hangs. The daemon watches its required loops, and ends when one of them hangs. Optional outputs are
watched by their supervisors, and restarted.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from edge.host.clock import NS_PER_S, Clock

LIMIT_S: Final = 15.0
"""How long a loop may stand still where the unit sets no WatchdogSec."""
HEARTBEAT_AGE: Final = "defectd_heartbeat_age_seconds"
"""The metric with the same ages, for watchers outside the process."""
MAX_STEP_S: Final = 1.0
"""One check counts at most this time: after the whole process stood still (SIGSTOP, a starved machine), every loop
gets its turn before it is judged."""


class Loop(Protocol):
    """A thread with a heartbeat."""

    @property
    def beat_ns(self) -> int:
        """When it last came round, monotonic."""
        ...


@dataclass(frozen=True, slots=True)
class Stuck:
    """A loop that does not move."""

    name: str
    still_s: float
    stack: str
    """The stack of its thread, as text; "" if there is no such thread."""


class Watchdog:
    """Checks all loops when it is called.  Owned by one thread."""

    def __init__(self, loops: Callable[[], Mapping[str, Loop]], clock: Clock, limit_s: float = LIMIT_S) -> None:
        """loops: the present ones, by the names of their threads.  limit_s: how long one may stand still."""
        self._loops = loops
        self._clock = clock
        self._limit_s = limit_s
        self._checked_ns = clock.monotonic_ns()
        self._seen: dict[str, tuple[int, float]] = {}
        """By loop: its last heartbeat, and for how long it has not changed, s."""

    def check(self) -> Stuck | None:
        """The loop that has stood still for the longest time, if that exceeds the limit."""
        now_ns = self._clock.monotonic_ns()
        passed_s = min((now_ns - self._checked_ns) / NS_PER_S, MAX_STEP_S)
        self._checked_ns = now_ns
        beats = {name: loop.beat_ns for name, loop in self._loops().items()}
        self._seen = {name: (beat_ns, self._still_s(name, beat_ns, passed_s)) for name, beat_ns in beats.items()}
        name, (_, still_s) = max(self._seen.items(), key=lambda item: item[1][1], default=("", (0, 0.0)))
        return Stuck(name, still_s, _stack(name)) if still_s > self._limit_s else None

    def _still_s(self, name: str, beat_ns: int, passed_s: float) -> float:
        last_ns, still_s = self._seen.get(name, (None, 0.0))
        return still_s + passed_s if beat_ns == last_ns else 0.0


def _stack(name: str) -> str:
    ident = next((thread.ident for thread in threading.enumerate() if thread.name == name), None)
    frame = None if ident is None else sys._current_frames().get(ident)  # noqa: SLF001 (documented, and made for this)
    return "".join(traceback.format_stack(frame)) if frame is not None else ""
