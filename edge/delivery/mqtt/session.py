"""One connection of the publisher: what is in flight on it, and what the broker answers.

Rows are sent in the order of `seq`, up to a window of them at a time. The session ends with its connection; what it
did not get confirmed is sent again on the next one.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from typing import Final

from edge.config import Mqtt
from edge.delivery.mqtt.broken_connections import PACKET_TOO_LARGE
from edge.delivery.mqtt.client import Link
from edge.delivery.mqtt.connection import STALL_KEEPALIVES
from edge.delivery.mqtt.deliveries import NEVER, TOPIC_INVALID, Deliveries
from edge.delivery.mqtt.messages import CONTENT_TYPE, Message, Messages, encoded
from edge.delivery.mqtt.notices import Acknowledged, Connected, Disconnected
from edge.delivery.mqtt.retries import Retries
from edge.delivery.outbox.rows import Row
from edge.delivery.outbox.store import Outbox
from edge.errors import BrokerError, OutboxError
from edge.host.clock import NS_PER_S, Clock

READ_ROWS: Final = 200
"""Rows read from the outbox at a time."""


class Session:
    """Owned by the publisher's thread."""

    def __init__(
        self,
        link: Link,
        connected: Connected,
        outbox: Outbox,
        messages: Messages,
        deliveries: Deliveries,
        settings: Mqtt,
        clock: Clock,
        retries: Retries,
    ) -> None:
        self.link = link
        self.protocol = connected.protocol
        self.packet_limit = connected.maximum_packet_size
        self.in_flight: dict[int, Row | Message] = {}
        """By message id, the oldest first."""
        self._sent_ns: dict[int, int] = {}
        """When each of them was sent."""
        self.has_confirmed = False
        """The broker has confirmed an event."""
        self.end: Disconnected | None = None
        self.is_given_up = False
        """We ended the connection: no event is to blame."""
        self.opened_ns = clock.monotonic_ns()
        self._outbox = outbox
        self._messages = messages
        self._deliveries = deliveries
        self._clock = clock
        self._retries = retries
        self._stall_s = STALL_KEEPALIVES * settings.keepalive_s
        self._window = max(1, min(settings.inflight, connected.receive_maximum))
        self._last_old_seq = outbox.last_seq
        """Events up to this one were stored before the connection stood: they are replayed."""
        self._checked_ns = 0
        self._cursor = 0
        self._ahead: deque[Row] = deque()
        self._tried: set[int] = set()
        """Events that were sent on this connection and must be sent again."""
        self._put_off: list[Message] = []
        """Retained messages that the broker did not take for now."""
        self._put_off_until_ns = 0
        self._hold_until_ns: int | None = None
        """No events before this time, nor while any is in flight: then all unconfirmed ones again, in order."""
        self._hold_s = retries.first_hold_s

    def rows_in_flight(self) -> list[Row]:
        return [item for item in self.in_flight.values() if isinstance(item, Row)]

    def patience_s(self) -> float:
        """How long the publisher may wait for a notice."""
        now_ns = self._clock.monotonic_ns()
        if self._hold_until_ns is None or self._hold_until_ns <= now_ns:
            return 1.0
        return min(1.0, (self._hold_until_ns - now_ns) / NS_PER_S)

    # ---- sending ---------------------------------------------------------------------------------

    def fill(self) -> None:
        """Send until the window is full: status and retained messages, replies, then events in order."""
        self._find_returned()
        while len(self.in_flight) < self._window:
            item = self._messages.next() or self._next_row()
            if item is None:
                return
            if isinstance(item, Row):
                self._send_row(item)
            else:
                self.send(item)

    def send(self, message: Message) -> int | None:
        """Returns the message id; None when it cannot be sent.  Raises BrokerError."""
        size = Link.packet_bytes(message.topic, message.payload, message.correlation, CONTENT_TYPE)
        if self.packet_limit is not None and size > self.packet_limit:
            self._deliveries.log(logging.ERROR, f"{message.topic}: the broker does not take so large a message")
            return None
        try:
            mid = self.link.publish(
                message.topic,
                message.payload,
                retain=message.retain,
                correlation=message.correlation,
                content_type=CONTENT_TYPE,
            )
        except ValueError as error:  # the requester of a reply chooses its topic
            self._deliveries.log(logging.WARNING, f"a message cannot be sent: {error}")
            return None
        self._await(mid, message)
        return mid

    def _next_row(self) -> Row | None:
        if self._deliveries.has_unsaved or (self._deliveries.broken.is_narrow and self.in_flight):
            return None
        if self._hold_until_ns is not None:
            if self.rows_in_flight() or self._clock.monotonic_ns() < self._hold_until_ns:
                return None
            self._hold_until_ns = None
            self._cursor = 0
            self._ahead.clear()
        if not self._ahead and self._outbox.depth() > len(self.rows_in_flight()):
            try:
                self._ahead.extend(self._outbox.peek(self._cursor, READ_ROWS))
            except OutboxError as error:
                self._hold(f"events cannot be read: {error}")
                return None
        if not self._ahead:
            return None
        row = self._ahead.popleft()
        self._cursor = row.seq
        return row

    def _find_returned(self) -> None:
        """Dead letters that were put back lie below the cursor: start again at the oldest."""
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._checked_ns < self._retries.returned_s * NS_PER_S:
            return
        self._checked_ns = now_ns
        try:
            has_returned = self._outbox.has_returned()
        except OutboxError as error:
            self._deliveries.log(logging.WARNING, f"dead letters cannot be read: {error}")
            return
        if has_returned:
            self._last_old_seq = self._outbox.last_seq  # they come late: replayed
            self._hold_until_ns = self._hold_until_ns or now_ns

    def _send_row(self, row: Row) -> None:
        is_replay = row.seq <= self._last_old_seq or row.seq in self._tried
        payload = _replayed(row.payload) if is_replay else row.payload
        size = Link.packet_bytes(row.topic, payload, content_type=CONTENT_TYPE)
        if self.packet_limit is not None and size > self.packet_limit:
            self.refuse(row, PACKET_TOO_LARGE, f"{size} bytes, and the broker takes {self.packet_limit}")
            return
        try:
            mid = self.link.publish(row.topic, payload, content_type=CONTENT_TYPE)
        except ValueError as error:
            self.refuse(row, TOPIC_INVALID, str(error))
            return
        self._await(mid, row)
        self._deliveries.count_sent(is_replay=is_replay)

    def _await(self, mid: int, item: Row | Message) -> None:
        self.in_flight[mid] = item
        self._sent_ns[mid] = self._clock.monotonic_ns()

    # ---- answers ---------------------------------------------------------------------------------

    def acknowledge(self, notice: Acknowledged) -> None:
        """The broker's answer to something in flight."""
        item = self.in_flight.pop(notice.mid, None)
        self._sent_ns.pop(notice.mid, None)
        now_ns = self._clock.monotonic_ns()
        if isinstance(item, Row):
            if notice.ok:
                self.has_confirmed = True
                self._hold_s = self._retries.first_hold_s
                self._deliveries.confirm(item)
            elif notice.code in NEVER or notice.code == PACKET_TOO_LARGE:
                self.refuse(item, notice.code, notice.reason)
            else:
                self._tried.add(item.seq)
                self._hold(f"the broker puts events off: {notice.reason}")
        elif item is not None and not notice.ok:
            if item.retain and notice.code not in NEVER:
                self._put_off.append(item)
                self._put_off_until_ns = now_ns + int(self._retries.first_hold_s * NS_PER_S)
            words = f"the broker refuses {item.topic}: {notice.reason}; check its access list"
            self._deliveries.log(logging.ERROR, words)

    def refuse(self, row: Row, code: int, reason: str) -> None:
        """Make this event a dead letter, or try again later when the disk fails."""
        try:
            self._deliveries.refuse(row, code, reason)
        except OutboxError as error:
            self._hold(f"a refused event cannot become a dead letter: {error}")

    def check_progress(self) -> None:
        """Raises BrokerError when the broker leaves something unconfirmed; sends again what it put off.

        The oldest message decides: later ones may be confirmed while the broker, or a hop on the way, has lost it.
        """
        now_ns = self._clock.monotonic_ns()
        oldest_ns = next(iter(self._sent_ns.values()), now_ns)
        if (now_ns - oldest_ns) / NS_PER_S > self._stall_s:
            self.is_given_up = True
            topic = next(iter(self.in_flight.values())).topic
            raise BrokerError(f"the broker has not confirmed {topic} for {self._stall_s} s: connecting again")
        if self._put_off and now_ns >= self._put_off_until_ns:
            self._messages.send_again(self._put_off)
            self._put_off.clear()

    def _hold(self, why: str) -> None:
        """Send no events for a while, then all unconfirmed ones again from the oldest."""
        self._deliveries.last_error = why
        self._deliveries.log(logging.WARNING, why)
        if self._hold_until_ns is None:
            self._hold_until_ns = self._clock.monotonic_ns() + int(self._hold_s * NS_PER_S)
            self._hold_s = min(self._hold_s * 2, self._retries.max_hold_s)


def _replayed(payload: bytes) -> bytes:
    """The event, marked as one that a subscriber may have received before, or that comes late."""
    return encoded({**json.loads(payload), "replayed": True})
