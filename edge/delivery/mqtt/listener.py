"""Listening to a broker: what `defectd tail` and the tests use."""

from __future__ import annotations

import contextlib
import logging
import queue
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence

from edge.config import Mqtt
from edge.delivery.mqtt.client import Link
from edge.delivery.mqtt.connection import ATTEMPT_TIMEOUT_S, backoff_for
from edge.delivery.mqtt.notices import Acknowledged, Connected, Disconnected, Notice, Received, Refused, Subscribed
from edge.delivery.mqtt.protocol_version import Version
from edge.errors import BrokerError
from edge.host.clock import NS_PER_S, SystemClock

log = logging.getLogger(__name__)


def listen(
    settings: Mqtt,
    filters: Sequence[str],
    *,
    client_id: str | None = None,
    stopped: threading.Event | None = None,
    on_state: Callable[[str], None] | None = None,
    on_connected: Callable[[], None] = lambda: None,
) -> Iterator[Received]:
    """Messages as they come, retained ones first, without end; connects again by itself.

    Close the generator, set `stopped`, or interrupt it to end.  on_state: called with a sentence when the connection
    starts and ends.  on_connected: called each time that the broker has granted the subscription.
    Raises BrokerError when the broker refuses the subscription.
    """
    is_over = stopped or threading.Event()
    report = on_state or (lambda sentence: log.info("%s", sentence))
    backoff = backoff_for(settings)
    version = Version(settings)
    name = client_id or f"defectd-tail-{secrets.token_hex(4)}"
    reported = ""
    while not is_over.is_set():
        attempt = _Attempt(settings, filters, client_id=name, version=version)
        for received in attempt.messages(is_over):
            if isinstance(received, Received):
                yield received
            else:
                backoff.reset()
                on_connected()
                reported = received
                report(received)
        if attempt.has_other_version:
            continue
        if attempt.end and attempt.end != reported:
            reported = attempt.end
            report(reported)
        is_over.wait(backoff.next_s())
        version.start_attempt()


class _Attempt:
    """One connection that listens."""

    def __init__(self, settings: Mqtt, filters: Sequence[str], *, client_id: str, version: Version) -> None:
        self._settings = settings
        self._filters = filters
        self._version = version
        self._notices: queue.SimpleQueue[Notice] = queue.SimpleQueue()
        self._link = Link(settings, client_id=client_id, deliver=self._notices.put, protocol=version.current)
        self.has_other_version = False
        """Try again at once, with another MQTT version."""
        self.end = ""
        """Why the connection ended."""

    def messages(self, is_over: threading.Event) -> Iterator[Received | str]:  # noqa: C901 (one case per notice)
        """Messages, and a sentence once the broker granted the subscription, until the connection ends."""
        host, port, _ = self._settings.address
        clock = SystemClock()
        asked_ns: int | None = clock.monotonic_ns()
        self._link.start()
        try:
            while not is_over.is_set():
                try:
                    notice = self._notices.get(timeout=0.2)
                except queue.Empty:
                    if asked_ns is not None and clock.monotonic_ns() - asked_ns > ATTEMPT_TIMEOUT_S * NS_PER_S:
                        self.end = f"the broker {host}:{port} does not answer"
                        return
                    continue
                match notice:
                    case Connected():
                        self._version.accepted()
                        with contextlib.suppress(BrokerError):  # it has ended already: its last notice follows
                            self._link.subscribe(self._filters)
                    case Subscribed(ok=True):
                        asked_ns = None
                        yield f"connected to {host}:{port}, MQTT {self._version.current}"
                    case Subscribed(reason=reason):
                        raise BrokerError(f"the broker {host}:{port} refuses the subscription: {reason}")
                    case Received():
                        yield notice
                    case Refused():
                        self.has_other_version = self._version.refused(notice)
                        self.end = str(notice)
                        return
                    case Disconnected(reason=reason):
                        self.end = reason
                        return
                    case Acknowledged():
                        pass
        finally:
            if not self._link.disconnect(0.5):
                self._link.discard(0.5)
