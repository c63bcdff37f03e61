"""What was inspected and what was not: every delivered frame in exactly one state (`edge/schema/coverage-1.json`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from edge.clock import NS_PER_S

SCHEMA: Final = "defectd.coverage/1"
STATES: Final = ("ok", "defect", "unsure", "bad_image", "late", "dropped")


@dataclass(slots=True)
class _Tally:
    frames: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATES, 0))
    inspected: int = 0
    skipped: int = 0
    no_signal_ns: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "delivered": sum(self.frames.values()),
            "frames": dict(self.frames),
            "tiles": {"inspected": self.inspected, "skipped": self.skipped},
            "no_signal_s": round(self.no_signal_ns / NS_PER_S, 3),
        }


class Coverage:
    """The account of one camera, for the last window and since the start. Owned by one thread."""

    def __init__(self, now_ns: int) -> None:
        """A camera begins without signal."""
        self._window = _Tally()
        self._total = _Tally()
        self._window_from_ns = now_ns
        self._silent_from_ns: int | None = now_ns

    def count(self, state: str, frames: int = 1) -> None:
        """Count frames into one state.  Raises KeyError for a state that does not exist."""
        for tally in (self._window, self._total):
            tally.frames[state] += frames

    def count_tiles(self, inspected: int, skipped: int = 0) -> None:
        for tally in (self._window, self._total):
            tally.inspected += inspected
            tally.skipped += skipped

    def signal(self, *, present: bool, now_ns: int) -> None:
        """The camera came or went; telling it twice changes nothing."""
        self._settle(now_ns)
        if present:
            self._silent_from_ns = None
        elif self._silent_from_ns is None:
            self._silent_from_ns = now_ns

    def delivered(self) -> int:
        """Frames since the start."""
        return sum(self._total.frames.values())

    def missed(self) -> dict[str, int]:
        """Frames of this window that nobody looked at, by state; empty when there are none."""
        return {state: n for state in ("bad_image", "late", "dropped") if (n := self._window.frames[state])}

    def report(self, now_ns: int) -> dict[str, Any]:
        """The coverage message for the window that ends now; a new window begins."""
        self._settle(now_ns)
        message = {
            "schema": SCHEMA,
            "window_s": round((now_ns - self._window_from_ns) / NS_PER_S, 3),
            **self._window.as_json(),
            "since_start": self._total.as_json(),
        }
        self._window = _Tally()
        self._window_from_ns = now_ns
        return message

    def _settle(self, now_ns: int) -> None:
        """Book the silence up to now.  A notice may be older than the last report: nothing is booked twice."""
        if self._silent_from_ns is None or now_ns <= self._silent_from_ns:
            return
        for tally in (self._window, self._total):
            tally.no_signal_ns += now_ns - self._silent_from_ns
        self._silent_from_ns = now_ns
