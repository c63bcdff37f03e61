"""Turns refused events into an alarm: at most one `events.refused` event a minute, however many were refused."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Final

from edge.delivery.outbox.rows import Row
from edge.event import NODE_CAMERA, Event
from edge.host.clock import NS_PER_S, Clock
from edge.host.redact import redact

INTERVAL_S: Final = 60.0
"""Minimum time between two alarms; the next alarm counts what was refused in between."""
MAX_TOPICS: Final = 5
MAX_REASON: Final = 200


class RejectedAlarm:
    """Counts events that became dead letters and reports them.  put: takes the alarm, must not block.

    The publisher's thread calls note(), any thread emit(): every few seconds, and at a stop with `at_once`.
    """

    def __init__(self, put: Callable[[Event], None], clock: Clock) -> None:
        self._put = put
        self._clock = clock
        self._lock = threading.Lock()
        self._emitted_ns: int | None = None
        """When the last alarm was emitted, monotonic."""
        self._clear()

    def _clear(self) -> None:
        self._codes: Counter[str] = Counter()
        self._topics: dict[str, None] = {}
        self._first_seq = self._last_seq = 0
        self._reason = ""

    def note(self, row: Row, code: int, reason: str) -> None:
        """Count a refused event; emit an alarm if the last one is long enough ago."""
        if b'"type":"events.' in row.payload:
            return  # the refusal of an alarm would raise the next alarm, without end
        with self._lock:
            first = self._first_seq or row.seq
            self._first_seq, self._last_seq = min(first, row.seq), max(self._last_seq, row.seq)
            self._codes[f"0x{code & 0xFF:02x}"] += 1
            if len(self._topics) < MAX_TOPICS:
                self._topics[row.topic] = None
            self._reason = redact(reason)[:MAX_REASON]
        self.emit()

    def emit(self, *, at_once: bool = False) -> bool:
        """Put the alarm if events were refused and the interval is over.  Returns whether it did."""
        now_ns = self._clock.monotonic_ns()
        with self._lock:
            is_early = self._emitted_ns is not None and now_ns - self._emitted_ns < INTERVAL_S * NS_PER_S
            if not self._codes or (is_early and not at_once):
                return False
            self._emitted_ns = now_ns
            detail = {
                "count": self._codes.total(),
                "first_seq": self._first_seq,
                "last_seq": self._last_seq,
                "codes": dict(self._codes),
                "topics": list(self._topics),
                "reason": self._reason,
            }
            self._clear()
        self._put(Event.now(self._clock, NODE_CAMERA, "events.refused", detail))
        return True
