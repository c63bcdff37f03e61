"""Which MQTT version to use, learnt from the answers of the broker."""

from __future__ import annotations

from typing import Final

from edge.config import Mqtt
from edge.delivery.mqtt.notices import Protocol, Refused

UNSUPPORTED_PROTOCOL: Final = 0x84
"""CONNACK code."""
HANG_UPS: Final = 2
"""Closed connections in a row, after which 3.1.1 is tried."""


class Version:
    """The MQTT version of the next attempt.

    Some brokers for 3.1.1 answer a CONNECT of version 5 with 0x84; others wait for more bytes, or hang up. The answer
    0x84 is remembered. Silence and hang-ups only suggest 3.1.1, and a broker that just restarts may cause them, too.
    With 3.1.1 a refused event looks accepted. Therefore such a guess holds for one connection only, and is not made
    once version 5 has worked.
    """

    def __init__(self, settings: Mqtt) -> None:
        # the embedded broker supports 3.1.1 only
        known: Protocol = "3.1.1" if settings.is_embedded else "5"
        self._is_free = settings.protocol == "auto"
        self._settled: Protocol = known if settings.protocol == "auto" else settings.protocol
        self._has_5_worked = False
        self._hang_ups = 0
        self.current: Protocol = self._settled

    def start_attempt(self) -> None:
        """A new attempt after a pause: forget a guess."""
        self.current = self._settled

    def accepted(self) -> None:
        self._hang_ups = 0
        self._has_5_worked = self._has_5_worked or self.current == "5"

    def refused(self, refused: Refused) -> bool:
        """Learn from a refusal.  True when `current` is now another version, to be tried at once."""
        self._hang_ups = self._hang_ups + 1 if refused.hung_up else 0
        if not self._is_free:
            return False
        if refused.code == UNSUPPORTED_PROTOCOL:
            was_5 = self.current == "5"
            self.current = self._settled = "3.1.1" if was_5 else "5"
            return was_5
        if self.current == "5" and not self._has_5_worked and (refused.silent or self._hang_ups >= HANG_UPS):
            self.current = "3.1.1"
            return True
        return False
