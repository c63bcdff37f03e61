"""What became of the events over all connections: confirmed, refused, and what of that the outbox knows already."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from edge.delivery.mqtt.broken_connections import BrokenConnections
from edge.delivery.mqtt.retries import Retries
from edge.delivery.outbox.rows import Row
from edge.delivery.outbox.store import Outbox
from edge.errors import OutboxError
from edge.host.clock import Clock
from edge.host.log_throttle import LogThrottle

TOPIC_INVALID: Final = 0x90
NEVER: Final = {0x87: "not authorised", TOPIC_INVALID: "topic name invalid", 0x99: "payload format invalid"}
"""PUBACK codes that no repetition changes."""

log = logging.getLogger(__name__)


class Deliveries:
    """Owned by the publisher's thread; other threads may read the counts.

    on_refused: called with each event that became a dead letter, with code and reason.  on_acknowledged: called with
    the id of each event that the broker confirmed.  Both run on the publisher's thread and must not block.
    """

    def __init__(
        self,
        outbox: Outbox,
        clock: Clock,
        on_refused: Callable[[Row, int, str], None],
        on_acknowledged: Callable[[str], None],
        retries: Retries,
    ) -> None:
        self._outbox = outbox
        self._clock = clock
        self._on_refused = on_refused
        self._on_acknowledged = on_acknowledged
        self._throttle = LogThrottle(log)
        self._unsaved: set[int] = set()
        """Confirmed events that the outbox could not mark yet."""
        self.broken = BrokenConnections(retries.poison_strikes)
        self.sent = self.acknowledged = self.replayed = self.refused = 0
        """Since the start of the daemon."""
        self.last_ack_ns: int | None = None
        self.last_error: str | None = None

    @property
    def has_unsaved(self) -> bool:
        return bool(self._unsaved)

    def count_sent(self, *, is_replay: bool) -> None:
        self.sent += 1
        self.replayed += is_replay

    def confirm(self, row: Row) -> None:
        """The broker confirmed this event; `save` marks it in the outbox."""
        self._unsaved.add(row.seq)
        self.acknowledged += 1
        self.last_ack_ns = self._clock.monotonic_ns()
        self.last_error = None
        self.broken.confirmed()
        self._on_acknowledged(row.event_id)

    def save(self) -> None:
        """Mark confirmed events in the outbox; while the disk fails, they stay unsaved."""
        if not self._unsaved:
            return
        try:
            self._outbox.ack(sorted(self._unsaved))
            self._unsaved.clear()
        except OutboxError as error:
            self.last_error = str(error)
            self.log(logging.ERROR, f"delivered events cannot be marked: {error}")

    def refuse(self, row: Row, code: int, reason: str) -> None:
        """Make this event a dead letter.  Raises OutboxError."""
        self._outbox.refuse(row.seq, code, reason)
        self.refused += 1
        self._on_refused(row, code, reason)
        self.last_error = f"{row.topic}: {reason}"
        self.log(
            logging.ERROR,
            f"the broker will never take events for {row.topic} ({NEVER.get(code, 'refused')}, code 0x{code:02x}): "
            "they are kept as dead letters, see `defectd dead-letters list`; check the broker's access list and limits",
        )

    def log(self, level: int, message: str) -> None:
        """Log the message unless it was logged within the last minute."""
        self._throttle.write(level, message, self._clock.monotonic_ns())
