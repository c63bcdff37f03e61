"""Refused events become an alarm: one `events.refused` event a minute, whatever the number."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Final

from edge.delivery.outbox.rows import Row
from edge.event import NODE_CAMERA, Event
from edge.host.clock import NS_PER_S, Clock, clock_synced, uuid7
from edge.host.redact import redact

EVERY_S: Final = 60.0
"""Least time between two alarms; what is refused in between is counted into the next."""
MAX_TOPICS: Final = 5
MAX_REASON: Final = 200


class RejectedAlarm:
    """Counts what became a dead letter and tells it.  put: takes the event, must not block.

    note() is for the publisher's thread, tell() for any; call it every few seconds, and at the end with `at_once`.
    """

    def __init__(self, put: Callable[[Event], None], clock: Clock) -> None:
        self._put = put
        self._clock = clock
        self._lock = threading.Lock()
        self._told_ns: int | None = None
        self._clear()

    def _clear(self) -> None:
        self._codes: Counter[str] = Counter()
        self._topics: dict[str, None] = {}
        self._first_seq = self._last_seq = 0
        self._reason = ""

    def note(self, row: Row, code: int, reason: str) -> None:
        """Count a refused event; tells it when the last alarm is long enough ago."""
        if b'"type":"events.' in row.payload:
            return  # the refusal of an alarm would raise an alarm, for ever
        with self._lock:
            first = self._first_seq or row.seq
            self._first_seq, self._last_seq = min(first, row.seq), max(self._last_seq, row.seq)
            self._codes[f"0x{code & 0xFF:02x}"] += 1
            if len(self._topics) < MAX_TOPICS:
                self._topics[row.topic] = None
            self._reason = redact(reason)[:MAX_REASON]
        self.tell()

    def tell(self, *, at_once: bool = False) -> bool:
        """Put the alarm if there is something to tell and it is time; whether it did."""
        now_ns = self._clock.monotonic_ns()
        with self._lock:
            is_early = self._told_ns is not None and now_ns - self._told_ns < EVERY_S * NS_PER_S
            if not self._codes or (is_early and not at_once):
                return False
            self._told_ns = now_ns
            detail = {
                "count": self._codes.total(),
                "first_seq": self._first_seq,
                "last_seq": self._last_seq,
                "codes": dict(self._codes),
                "topics": list(self._topics),
                "reason": self._reason,
            }
            self._clear()
        wall_ns = self._clock.wall_ns()
        stamp = uuid7(wall_ns)
        self._put(Event(stamp, NODE_CAMERA, "events.refused", wall_ns, now_ns, clock_synced(), detail=detail))
        return True
