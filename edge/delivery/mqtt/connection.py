"""One thread's connection to a broker: links made one after the other, of which only the newest counts.

A `Link` is one connection attempt. Its notices carry its number, so that a late notice of an old link is not taken
for one of the newest. An attempt that hangs in name resolution is left behind; their number is limited.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from edge.config import Mqtt
from edge.delivery.mqtt.client import Link, OpenLink
from edge.delivery.mqtt.notices import Connected, Disconnected, Notice, Received, Refused, Will
from edge.delivery.mqtt.protocol_version import Version
from edge.errors import BrokerError
from edge.host.backoff import Backoff
from edge.host.clock import NS_PER_S, Clock

ATTEMPT_TIMEOUT_S: Final = 20.0
"""For a whole attempt; only name resolution can take longer, and its thread is then left behind."""
ABANDONED_LINKS: Final = 4
"""Attempts that hang in name resolution, beyond which no new one is made."""
STALL_KEEPALIVES: Final = 3
"""A connection on which something stays unconfirmed for this many keepalives is dropped by its owner."""
STEADY_S: Final = 10.0
"""A connection that lasted this long resets its owner's backoff."""
RECEIVE_S: Final = 1.0
"""Longest wait at a time, so that the watchdog sees that the loop moves."""
MAX_WAITING: Final = 1000
"""Messages from the broker that wait for the owner; more are dropped and counted."""
MAX_MESSAGE_BYTES: Final = 512 * 1024
"""Longer payloads are truncated; their receivers reject them by their length."""


class Connection:
    """Owned by one thread; other threads may only call `wake`.

    max_message_bytes: longer payloads are truncated.  intercept: called with each message first, on the link's
    thread; a message for which it returns true goes no further.
    """

    def __init__(
        self,
        open_link: OpenLink,
        settings: Mqtt,
        clock: Clock,
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        intercept: Callable[[Received], bool] = lambda _received: False,
    ) -> None:
        self._max_message_bytes = max_message_bytes
        self._intercept = intercept
        self._open_link = open_link
        self._settings = settings
        self._clock = clock
        self._version = Version(settings)
        self._inbox: queue.SimpleQueue[tuple[int, Notice] | None] = queue.SimpleQueue()
        self._woken = False
        self._generation = 0
        self._abandoned: list[Link] = []
        self.dropped = 0
        """Messages dropped in a flood."""
        self.beat_ns = clock.monotonic_ns()
        """When the owner last called `receive`, monotonic: the heartbeat of its thread."""

    def wake(self) -> None:
        """End the wait of `receive`; from any thread."""
        if not self._woken:
            self._woken = True
            self._inbox.put(None)

    @property
    def has_notices(self) -> bool:
        return not self._inbox.empty()

    def receive(self, timeout_s: float) -> Notice | None:
        """The next notice of the newest link; None after the time (at most RECEIVE_S), or after `wake`."""
        self.beat_ns = self._clock.monotonic_ns()
        try:
            item = self._inbox.get(timeout=min(max(timeout_s, 0.0), RECEIVE_S))
        except queue.Empty:
            return None
        if item is None:
            self._woken = False
            return None
        generation, notice = item
        return notice if generation == self._generation else None

    def connect(self, make_will: Callable[[], Will], give_up_ns: Callable[[], int | None]) -> tuple[Link, Connected]:
        """Connect; tries the other MQTT version where that may help.  Raises BrokerError with the remedy.

        make_will: called for each attempt.  give_up_ns: the monotonic time at which to give up, or None.
        """
        self._abandoned = [link for link in self._abandoned if link.alive]
        if len(self._abandoned) >= ABANDONED_LINKS:
            raise BrokerError("connecting hangs, probably in name resolution: check the DNS of this machine")
        self._version.start_attempt()
        while True:
            self._generation += 1
            link = self._open_link(
                deliver=self._delivery(self._generation), protocol=self._version.current, will=make_will()
            )
            link.start()
            answer = self._answer(give_up_ns)
            if isinstance(answer, Connected):
                self._version.accepted()
                return link, answer
            self.drop(link)
            if not self._version.refused(answer):
                raise BrokerError(str(answer))

    def drop(self, link: Link) -> None:
        """End a link without a disconnect; one that hangs is left behind."""
        if not link.discard():
            self._abandoned.append(link)

    def _delivery(self, generation: int) -> Callable[[Notice], None]:
        def deliver(notice: Notice) -> None:
            if isinstance(notice, Received) and self._intercept(notice):
                return
            if isinstance(notice, Received) and self._inbox.qsize() >= MAX_WAITING:
                self.dropped += 1  # a flood of messages must not delay the broker's answers
                return
            if isinstance(notice, Received) and len(notice.payload) > self._max_message_bytes:
                notice = replace(notice, payload=notice.payload[: self._max_message_bytes])
            self._inbox.put((generation, notice))

        return deliver

    def _answer(self, give_up_ns: Callable[[], int | None]) -> Connected | Refused:
        host, port, _ = self._settings.address
        until_ns = self._clock.monotonic_ns() + int(ATTEMPT_TIMEOUT_S * NS_PER_S)
        while True:
            limit_ns = give_up_ns()
            end_ns = until_ns if limit_ns is None else min(until_ns, limit_ns)
            left_s = (end_ns - self._clock.monotonic_ns()) / NS_PER_S
            if left_s <= 0:
                return Refused(f"the broker {host}:{port} does not answer", "is the network up, is the broker healthy?")
            match self.receive(left_s):
                case Connected() | Refused() as answer:
                    return answer
                case Disconnected(reason=reason):
                    return Refused(f"the broker {host}:{port}: {reason}", "see its log")
                case _:
                    pass


def backoff_for(settings: Mqtt) -> Backoff:
    """Delays between attempts: 0.1 to 2 s for a broker on this machine, 1 to 60 s for one on the network."""
    host = settings.address[0]
    return Backoff(0.1, 2.0) if host in ("127.0.0.1", "::1", "localhost") else Backoff(1.0, 60.0)
