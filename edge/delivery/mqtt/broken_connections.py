"""Why connections end: an event that ends each one it is sent on, or a second client with the same id."""

from __future__ import annotations

from typing import Final

from edge.delivery.mqtt.notices import Disconnected
from edge.delivery.outbox.rows import Row
from edge.host.clock import NS_PER_S

CLASH_S: Final = 10.0
CLASH_STRIKES: Final = 3
"""Connections in a row that ended within CLASH_S without a code: many brokers do that to equal client ids."""
PACKET_TOO_LARGE: Final = 0x95


class BrokenConnections:
    """Compares connections that ended.  Owned by the publisher's thread."""

    def __init__(self, poison_strikes: int) -> None:
        self._poison_strikes = poison_strikes
        self.is_narrow = False
        """Send one event at a time: a connection ended with several in flight and none confirmed."""
        self._suspect: int | None = None
        self._strikes = 0
        self._short_lived = 0

    def confirmed(self) -> None:
        """The broker confirmed an event: this connection and what it carries are good."""
        self.is_narrow = False
        self._strikes = 0

    def culprit(self, end: Disconnected, in_flight: list[Row]) -> Row | None:
        """The event that ended this connection, which confirmed none, and those before.  3.1.1 brokers end connections
        on large events.  in_flight: not empty.
        """
        if not self.is_narrow or len(in_flight) > 1:
            self.is_narrow = True
            return None
        row = in_flight[0]
        self._strikes = self._strikes + 1 if self._suspect == row.seq else 1
        self._suspect = row.seq
        if end.code != PACKET_TOO_LARGE and self._strikes < self._poison_strikes:
            return None
        self._strikes = 0
        return row

    def is_client_id_clash(self, lived_ns: int, *, without_code: bool) -> bool:
        """Whether another client probably uses our id: not every broker states that.

        without_code: the connection ended from the other side, without a code.
        """
        is_odd = without_code and lived_ns < CLASH_S * NS_PER_S
        self._short_lived = self._short_lived + 1 if is_odd else 0
        return self._short_lived >= CLASH_STRIKES
