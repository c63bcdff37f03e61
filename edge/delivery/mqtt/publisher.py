"""From the outbox to the broker: the only module that connects again and sends again.

An event is delivered when the broker has confirmed it, not before. Rows are sent in the order of `seq`, a window of
them at a time; after a broken connection, a crash or a broker that was full, everything unconfirmed is sent again from
the oldest. So each event arrives at least once, and first arrivals are in order, except where a broker refuses single
events of a window for now and takes later ones (`seq` then shows the order).

Each connection is a new `Link` with its own message ids; notices carry the number of their connection, so that a late
one is recognised. A broker that is away costs nothing but time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from edge.config import Mqtt
from edge.delivery.mqtt.client import OpenLink
from edge.delivery.mqtt.connection import STEADY_S, Connection, backoff_for
from edge.delivery.mqtt.deliveries import Deliveries
from edge.delivery.mqtt.messages import Message, Messages, encoded
from edge.delivery.mqtt.notices import (
    Acknowledged,
    Disconnected,
    Notice,
    Protocol,
    Received,
    Refused,
    Subscribed,
)
from edge.delivery.mqtt.retries import DEFAULT_RETRIES, Retries
from edge.delivery.mqtt.session import Session
from edge.delivery.mqtt.topics import Topics
from edge.delivery.outbox.rows import Row
from edge.delivery.outbox.store import Outbox
from edge.errors import BrokerError
from edge.host.backoff import Backoff
from edge.host.clock import NS_PER_S, Clock, stamp
from edge.host.worker import Worker

log = logging.getLogger(__name__)

MAX_COMMAND_BYTES: Final = 20_000
"""A command may have 16 KiB; longer payloads are truncated, and the reader rejects them by their length."""
GOODBYE_S: Final = 2.0
"""For the offline message at a stop."""
DISCONNECT_S: Final = 1.0
JOIN_S: Final = 2.0
"""How much longer than its time a stop waits for the thread."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How delivery is doing.  since_ns, last_ack_ns: monotonic; counts since the start of the daemon."""

    connected: bool
    since_ns: int
    """When the connection started or ended."""
    protocol: Protocol | None
    connections: int
    sent: int
    """Publishes of events, repetitions included."""
    acknowledged: int
    replayed: int
    refused: int
    """Events that became dead letters."""
    inflight: int
    depth: int
    last_ack_ns: int | None
    last_error: str | None


def _ignore(*_args: object) -> None:
    """A callback that nothing needs."""


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Who is called with what comes from the broker.  None may block."""

    on_command: Callable[[Received], None] = _ignore
    """A message of the subscriptions; on the publisher's thread."""
    intercept: Callable[[Received], bool] = lambda _received: False
    """Called with each message first, on the connection's thread; true: it goes no further."""
    on_refused: Callable[[Row, int, str], None] = _ignore
    """An event became a dead letter, with code and reason; on the publisher's thread."""
    on_acknowledged: Callable[[str], None] = _ignore
    """The broker confirmed the event with this id; on the publisher's thread."""


class Publisher:
    """The thread `publisher`: owns the connection, sends what the outbox holds, keeps retained messages current.

    open_link: makes a connection attempt.  version: of defectd, for the status message.  Any thread may call any
    public method.
    """

    def __init__(
        self,
        open_link: OpenLink,
        outbox: Outbox,
        topics: Topics,
        clock: Clock,
        settings: Mqtt,
        *,
        version: str,
        subscriptions: tuple[str, ...] = (),
        callbacks: Callbacks = Callbacks(),
        backoff: Backoff | None = None,
        retries: Retries = DEFAULT_RETRIES,
    ) -> None:
        self._outbox = outbox
        self._clock = clock
        self._settings = settings
        self._subscriptions = subscriptions
        self._on_command = callbacks.on_command
        self._backoff = backoff or backoff_for(settings)
        self._retries = retries
        self._connection = Connection(
            open_link, settings, clock, max_message_bytes=MAX_COMMAND_BYTES, intercept=callbacks.intercept
        )
        self._messages = Messages(topics, version)
        self._deliveries = Deliveries(outbox, clock, callbacks.on_refused, callbacks.on_acknowledged, retries)
        self._stop_ns: int | None = None
        self._session: Session | None = None
        self._since_ns = clock.monotonic_ns()
        self._connections = 0
        self._worker = Worker("publisher", self._run, clock)

    # ---- from any thread -------------------------------------------------------------------------

    def start(self) -> None:
        self._worker.start()

    def wake(self) -> None:
        """There is something to send."""
        self._connection.wake()

    def retain(self, topic: str, payload: dict[str, Any]) -> bool:
        """Make this the topic's retained message, now and after each connection.  False if there are too many."""
        is_taken = self._messages.retain(topic, payload)
        self.wake()
        return is_taken

    def forget(self, topic: str) -> None:
        """Clear the topic's retained message on the broker."""
        self._messages.forget(topic)
        self.wake()

    def announce(self, more: dict[str, Any]) -> None:
        """Set the fields of the status message beside online, node, version and since."""
        self._messages.announce(more)
        self.wake()

    def reply(self, topic: str, payload: dict[str, Any], correlation: bytes | None = None) -> None:
        """Send once, when connected; not kept over a restart. When too much waits, the oldest are dropped."""
        self._messages.reply(Message(topic, encoded(payload), retain=False, correlation=correlation))
        self.wake()

    @property
    def packet_limit(self) -> int | None:
        """Bytes of a whole packet that the broker takes, if it is connected and stated it."""
        session = self._session
        return None if session is None else session.packet_limit

    def stop(self, timeout_s: float) -> bool:
        """Send what is left, publish offline, disconnect.  False if events are left; they stay in the outbox."""
        self._stop_ns = self._clock.monotonic_ns() + int(timeout_s * NS_PER_S)
        self._connection.wake()
        return self._worker.join(timeout_s + JOIN_S) and self._outbox.depth() == 0

    @property
    def alive(self) -> bool:
        return self._worker.alive

    @property
    def beat_ns(self) -> int:
        """When the loop last came round."""
        return self._connection.beat_ns

    @property
    def dropped_commands(self) -> int:
        """Messages that were dropped unread in a flood."""
        return self._connection.dropped

    def snapshot(self) -> Snapshot:
        session, deliveries = self._session, self._deliveries
        return Snapshot(
            connected=session is not None,
            since_ns=self._since_ns,
            protocol=None if session is None else session.protocol,
            connections=self._connections,
            sent=deliveries.sent,
            acknowledged=deliveries.acknowledged,
            replayed=deliveries.replayed,
            refused=deliveries.refused,
            inflight=0 if session is None else len(session.in_flight),
            depth=self._outbox.depth(),
            last_ack_ns=deliveries.last_ack_ns,
            last_error=deliveries.last_error,
        )

    # ---- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while True:
                is_last = self._stop_ns is not None
                try:
                    self._connect_and_serve()
                    return  # by a stop
                except BrokerError as error:
                    self._deliveries.last_error = str(error)
                    # no count here: the throttle compares whole messages
                    waiting = "events wait in the outbox" if self._outbox.depth() else "no event waits"
                    self._deliveries.log(logging.WARNING, f"{error}; {waiting}")
                self._rest(self._backoff.next_s())
                if self._stop_ns is not None and (is_last or self._outbox.depth() == 0):
                    return  # a stop allows one more attempt for what still waits
        except Exception:
            log.exception("the publisher has ended: events are stored, but no longer sent")
        finally:
            self._session = None

    def _connect_and_serve(self) -> None:
        """One connection from the attempt to its end.  Raises BrokerError unless a stop ended it."""
        link, connected = self._connection.connect(self._messages.will, lambda: self._stop_ns)
        session = Session(
            link,
            connected,
            self._outbox,
            self._messages,
            self._deliveries,
            self._settings,
            self._clock,
            self._retries,
        )
        self._report_connected(session)
        has_left = False
        try:
            if self._subscriptions:
                link.subscribe(self._subscriptions)
            while not self._is_drained(session):
                session.fill()
                self._receive(session)
                self._deliveries.save()
                session.check_progress()
                if self._clock.monotonic_ns() - session.opened_ns > STEADY_S * NS_PER_S:
                    self._backoff.reset()
            has_left = self._say_goodbye(session)
        finally:
            if not has_left:
                self._connection.drop(link)
            self._take_last_notices(session)
            self._session = None
            self._since_ns = self._clock.monotonic_ns()
            self._find_cause(session)

    def _rest(self, delay_s: float) -> None:
        """Wait between attempts; a stop ends the wait, new events do not."""
        until_ns = self._clock.monotonic_ns() + int(delay_s * NS_PER_S)
        while self._stop_ns is None:
            left_s = (until_ns - self._clock.monotonic_ns()) / NS_PER_S
            if left_s <= 0:
                return
            self._connection.receive(left_s)

    def _report_connected(self, session: Session) -> None:
        away_s = (session.opened_ns - self._since_ns) / NS_PER_S
        self._connections += 1
        self._since_ns = session.opened_ns
        self._session = session
        self._messages.connected(stamp(self._clock.wall_ns()))
        host, port, tls = self._settings.address
        words = f"connected to {host}:{port}, MQTT {session.protocol}{', TLS' if tls else ''}"
        self._deliveries.log(logging.INFO, words)
        if self._connections > 1 or away_s > 5.0:
            log.debug("the connection was away for %.1f s", away_s)
        if session.protocol == "3.1.1" and not self._settings.is_embedded:
            words = "with MQTT 3.1.1 the broker cannot report that it refuses an event: check its access list"
            self._deliveries.log(logging.WARNING, words)

    # ---- receiving -------------------------------------------------------------------------------

    def _receive(self, session: Session) -> None:
        """Wait for a notice, then take all that came.  Raises BrokerError at the end of the connection."""
        patience_s = session.patience_s()
        if self._stop_ns is not None:
            left_ns = self._stop_ns - self._goodbye_ns() - self._clock.monotonic_ns()
            patience_s = min(patience_s, max(0.0, left_ns / NS_PER_S))
        self._take(session, self._connection.receive(patience_s))
        while self._connection.has_notices:
            self._take(session, self._connection.receive(0.0))

    def _take_last_notices(self, session: Session) -> None:
        """Take the last notices of an ended connection: confirmations save a repetition, the end may name a cause."""
        while self._connection.has_notices:
            match self._connection.receive(0.0):
                case Acknowledged() as notice:
                    self._acknowledge(session, notice)
                case Disconnected() as notice:
                    session.end = session.end or notice
                case _:
                    pass
        self._deliveries.save()

    def _take(self, session: Session, notice: Notice | None) -> None:
        match notice:
            case Acknowledged():
                self._acknowledge(session, notice)
            case Disconnected():
                session.end = notice
                raise BrokerError(f"the connection to the broker ended: {notice.reason}")
            case Refused():
                raise BrokerError(str(notice))
            case Subscribed(ok=False, reason=reason):
                words = f"the broker refuses a subscription (commands, speed or coil): {reason}"
                self._deliveries.log(logging.WARNING, words)
            case Received():
                self._on_command(notice)
            case _:
                pass

    def _acknowledge(self, session: Session, notice: Acknowledged) -> None:
        had_confirmed = session.has_confirmed
        session.acknowledge(notice)
        if session.has_confirmed and not had_confirmed:
            self._backoff.reset()

    def _find_cause(self, session: Session) -> None:
        """Look for an event, or another client, that ends the connections."""
        broken, end, is_given_up = self._deliveries.broken, session.end, session.is_given_up
        rows = session.rows_in_flight()
        if end is not None and rows and not is_given_up and not session.has_confirmed:
            row = broken.culprit(end, rows)
            if row is not None:
                session.refuse(row, end.code or 0, f"ends the connection: {end.reason}")
        without_code = end is not None and end.code is None and not is_given_up
        if broken.is_client_id_clash(self._since_ns - session.opened_ns, without_code=without_code):
            self._deliveries.log(
                logging.WARNING,
                "each connection ends soon after it stands: if broker and network are in order, another "
                "client uses the same id: give each node its own name or mqtt.client_id",
            )

    # ---- stopping --------------------------------------------------------------------------------

    def _goodbye_ns(self) -> int:
        return int(GOODBYE_S * NS_PER_S / 2)

    def _is_drained(self, session: Session) -> bool:
        """Whether the publisher is stopping, and everything is sent or the time for that is over."""
        if self._stop_ns is None:
            return False
        if self._clock.monotonic_ns() >= self._stop_ns - self._goodbye_ns():
            return True
        if not self._messages.is_empty or session.in_flight or self._deliveries.has_unsaved:
            return False
        return self._outbox.depth() == 0

    def _say_goodbye(self, session: Session) -> bool:
        """Publish offline, retained, and disconnect, so that the broker does not publish the will."""
        session.is_given_up = True
        self._deliveries.save()
        until_ns = self._clock.monotonic_ns() + int(GOODBYE_S * NS_PER_S)
        mid = session.send(self._messages.offline(stamp(self._clock.wall_ns())))
        while mid in session.in_flight and (left_ns := until_ns - self._clock.monotonic_ns()) > 0:
            self._take(session, self._connection.receive(left_ns / NS_PER_S))
        self._deliveries.save()
        return session.link.disconnect(DISCONNECT_S)
