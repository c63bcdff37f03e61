"""What the inspection loop noted along the strip since the record last took it: runs, width, speed.

The loop puts, and never waits; the thread of the record reads the oldest, writes them, and only then forgets them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from edge.coverage.runs import Run

MAX_NOTES: Final = 20_000
"""Notes that wait while the disk is full: hours of one camera."""


@dataclass(frozen=True, slots=True)
class RunsNote:
    """Runs of one camera on one coil, in meters of that coil; none: it sees the coil, and the place is unknown."""

    camera: str
    coil: str | None
    runs: tuple[Run, ...]
    lane: str | None = None
    """None: the coil is that of the strip."""


@dataclass(frozen=True, slots=True)
class WidthNote:
    """The width at one place: median, least, most.  at_m: None where the place is unknown."""

    camera: str
    coil: str | None
    at_m: float | None
    median_mm: float
    least_mm: float
    most_mm: float


@dataclass(frozen=True, slots=True)
class SpeedNote:
    """Speed and position of the strip.  at_m: None where it is unknown."""

    coil: str | None
    at_m: float | None
    m_per_s: float | None


TraceNote = RunsNote | WidthNote | SpeedNote


class StripTrace:
    """A bounded queue of notes: any thread puts, one thread reads and forgets."""

    def __init__(self, max_notes: int = MAX_NOTES) -> None:
        self._lock = threading.Lock()
        self._notes: deque[TraceNote] = deque()
        self._max_notes = max_notes
        self._dropped = 0
        self._first = 0
        """Number of the oldest note that waits."""
        self.is_wanted = False
        """Whether somebody reads; without a reader nothing is kept."""

    def put(self, notes: Sequence[TraceNote]) -> None:
        """Add notes.  Beyond the limit the oldest go, and are counted: the record shows their meters as unknown."""
        if not self.is_wanted:
            return
        with self._lock:
            self._notes.extend(notes)
            while len(self._notes) > self._max_notes:
                self._notes.popleft()
                self._first += 1
                self._dropped += 1

    def read(self, limit: int) -> tuple[int, tuple[TraceNote, ...]]:
        """The oldest notes, and the number to `forget` them with.  They stay until then."""
        with self._lock:
            notes = tuple(islice(self._notes, limit))
            return self._first + len(notes), notes

    def forget(self, number: int) -> None:
        """Remove the notes below this number."""
        with self._lock:
            while self._notes and self._first < number:
                self._notes.popleft()
                self._first += 1

    @property
    def dropped(self) -> int:
        """Notes that were lost since the start."""
        return self._dropped
