"""One thread's way to a broker: links made one after the other, of which only the newest is heard.

A `Link` is one connection attempt. What it has to say comes with its number, so that the last words of an old one
are not taken for news. An attempt stuck in name resolution is left behind, but not without end.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from edge.config import Mqtt
from edge.delivery.mqtt.client import (
    ATTEMPT_TIMEOUT_S,
    Connected,
    Disconnected,
    Link,
    Notice,
    OpenLink,
    Received,
    Refused,
    Version,
    Will,
)
from edge.errors import BrokerError
from edge.host.clock import NS_PER_S, Clock

ABANDONED_LINKS: Final = 4
"""Attempts stuck in name resolution that are left behind before a new one is made."""
HEAR_S: Final = 1.0
"""Longest wait at a time, so that the watchdog sees that the loop lives."""
MAX_UNHEARD: Final = 1000
"""Messages from the broker that wait to be heard; more are dropped and counted."""
MAX_HEARD_BYTES: Final = 512 * 1024
"""Of one message; the rest is cut off: nothing that is meant for us is as long, and it is refused by its length."""


class Connection:
    """Owned by one thread; only `wake` may be called from others.  heard_bytes: of one message, the rest is cut off.

    overhear: asked of each message first, in the link's thread; what it takes goes no further.
    """

    def __init__(
        self,
        open_link: OpenLink,
        settings: Mqtt,
        clock: Clock,
        *,
        heard_bytes: int = MAX_HEARD_BYTES,
        overhear: Callable[[Received], bool] = lambda _received: False,
    ) -> None:
        self._heard_bytes = heard_bytes
        self._overhear = overhear
        self._open_link = open_link
        self._settings = settings
        self._clock = clock
        self._version = Version(settings)
        self._inbox: queue.SimpleQueue[tuple[int, Notice] | None] = queue.SimpleQueue()
        self._woken = False
        self._generation = 0
        self._abandoned: list[Link] = []
        self.unheard = 0
        """Messages dropped in a flood."""
        self.beat_ns = clock.monotonic_ns()
        """When the owner last listened: the watchdog looks at it."""

    def wake(self) -> None:
        """End the wait of `hear`; from any thread."""
        if not self._woken:
            self._woken = True
            self._inbox.put(None)

    @property
    def has_news(self) -> bool:
        return not self._inbox.empty()

    def hear(self, timeout_s: float) -> Notice | None:
        """The next notice of the newest link; None after the time (at most HEAR_S), or when woken."""
        self.beat_ns = self._clock.monotonic_ns()
        try:
            item = self._inbox.get(timeout=min(max(timeout_s, 0.0), HEAR_S))
        except queue.Empty:
            return None
        if item is None:
            self._woken = False
            return None
        generation, notice = item
        return notice if generation == self._generation else None

    def call(self, make_will: Callable[[], Will], give_up_ns: Callable[[], int | None]) -> tuple[Link, Connected]:
        """Connect, trying the other MQTT version where that may help.  Raises BrokerError with the remedy.

        make_will: asked anew for each attempt.  give_up_ns: monotonic, by when to end in any case, or None.
        """
        self._abandoned = [link for link in self._abandoned if link.alive]
        if len(self._abandoned) >= ABANDONED_LINKS:
            raise BrokerError("connecting hangs, probably in name resolution: check the DNS of this machine")
        self._version.begin()
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
            self.leave(link)
            if not self._version.refused(answer):
                raise BrokerError(str(answer))

    def leave(self, link: Link) -> None:
        """End a link without a farewell, also one that hangs."""
        if not link.discard():
            self._abandoned.append(link)

    def _delivery(self, generation: int) -> Callable[[Notice], None]:
        def deliver(notice: Notice) -> None:
            if isinstance(notice, Received) and self._overhear(notice):
                return
            if isinstance(notice, Received) and self._inbox.qsize() >= MAX_UNHEARD:
                self.unheard += 1  # what the broker answers must not drown in a flood of messages
                return
            if isinstance(notice, Received) and len(notice.payload) > self._heard_bytes:
                notice = replace(notice, payload=notice.payload[: self._heard_bytes])
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
            match self.hear(left_s):
                case Connected() | Refused() as answer:
                    return answer
                case Disconnected(reason=reason):
                    return Refused(f"the broker {host}:{port}: {reason}", "see its log")
                case _:
                    pass
