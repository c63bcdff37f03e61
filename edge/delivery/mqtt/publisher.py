"""From the outbox to the broker: the one place that connects again and sends again.

An event is done when the broker has confirmed it, not before. Rows go out in the order of `seq`, a window of them
at a time; after a broken connection, a crash or a broker that was full, everything unconfirmed goes out again from
the oldest. So each event arrives at least once, and first arrivals are in order, but where a broker refuses single
events of a window for now and takes later ones (then `seq` tells).

Each connection is a new `Link` with message ids of its own; notices carry the number of their connection, so that
a late one is recognised. A broker that is away costs nothing but time.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from edge.config import Mqtt
from edge.delivery.mqtt.client import (
    NEVER,
    PACKET_TOO_LARGE,
    TOPIC_INVALID,
    Acknowledged,
    Backoff,
    Connected,
    Disconnected,
    Link,
    Notice,
    OpenLink,
    Protocol,
    Received,
    Refused,
    Subscribed,
    Will,
)
from edge.delivery.mqtt.connection import Connection
from edge.delivery.mqtt.topics import Topics
from edge.delivery.outbox.rows import Row
from edge.delivery.outbox.store import Outbox
from edge.errors import BrokerError, OutboxError
from edge.host.clock import NS_PER_S, Clock, stamp

logger = logging.getLogger(__name__)

AHEAD: Final = 200
"""Rows read from the outbox at a time."""
MAX_RETAINED: Final = 1024
"""Topics with a retained message."""
MAX_REPLIES: Final = 100
MAX_REPLY_BYTES: Final = 4 * 1024 * 1024
"""Replies that wait for the connection; the oldest go."""
STALL_KEEPALIVES: Final = 3
"""Without any acknowledgement for so many keepalives, a connection that looks alive is thrown away."""
STEADY_S: Final = 10.0
"""A connection that lasted this long starts the backoff anew."""
CLASH_S: Final = 10.0
CLASH_STRIKES: Final = 3
"""Connections in a row that ended within CLASH_S without a word: what many brokers do to two equal client ids."""
POISON_STRIKES: Final = 8
"""Connections lost in a row with one and the same event alone in flight, until it is held to be the cause."""
HOLD_FIRST_S: Final = 1.0
HOLD_LAST_S: Final = 30.0
LOOK_S: Final = 1.0
"""Seconds between two looks for dead letters that were put back."""
MAX_HEARD_BYTES: Final = 20_000
"""Of a command, which may have 16 KiB."""
REMIND_S: Final = 60.0
"""Seconds between two log lines with the same words."""
GOODBYE_S: Final = 2.0
"""For the offline message at a stop."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How delivery stands. since_ns, last_ack_ns: monotonic; counts since the start of the daemon."""

    connected: bool
    since_ns: int
    """When the connection came or went."""
    protocol: Protocol | None
    connections: int
    sent: int
    """Publishes of events, repetitions included."""
    acknowledged: int
    replayed: int
    refused: int
    """Events moved to the dead letters."""
    inflight: int
    depth: int
    last_ack_ns: int | None
    last_error: str | None


@dataclass(frozen=True, slots=True)
class _Message:
    """Anything sent that is not an event: a retained message, or a reply."""

    topic: str
    payload: bytes
    retain: bool
    correlation: bytes | None = None


@dataclass(slots=True)
class _Session:
    """What is true of one connection only. Dies with it."""

    link: Link
    protocol: Protocol
    window: int
    packet_limit: int | None
    fresh_after: int
    """Events up to this `seq` were stored before the connection stood: they are replayed."""
    opened_ns: int
    progress_ns: int
    looked_ns: int = 0
    """When it was last looked whether dead letters were put back."""
    cursor: int = 0
    ahead: deque[Row] = field(default_factory=deque)
    in_flight: dict[int, Row | _Message] = field(default_factory=dict)
    tried: set[int] = field(default_factory=set)
    """Events that were sent on this connection and are to be sent again."""
    put_off: list[_Message] = field(default_factory=list)
    """Retained messages that the broker would not take for now."""
    put_off_until_ns: int = 0
    hold_until_ns: int | None = None
    """No events before this time, nor while any is in flight: then everything unconfirmed again, in order."""
    hold_s: float = HOLD_FIRST_S
    acked_any: bool = False
    end: Disconnected | None = None
    given_up: bool = False
    """Ended by us: no event is to blame."""

    def rows_in_flight(self) -> list[Row]:
        return [item for item in self.in_flight.values() if isinstance(item, Row)]


class _Rare:
    """Lets the same words into the log once a minute, with the number of times they were held back."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: dict[str, tuple[int, int]] = {}

    def log(self, level: int, words: str) -> None:
        now_ns = self._clock.monotonic_ns()
        last = self._told.get(words)
        if last is not None and now_ns - last[0] < REMIND_S * NS_PER_S:
            self._told[words] = (last[0], last[1] + 1)
            return
        if last is None and len(self._told) >= 64:
            self._told.clear()
        self._told[words] = (now_ns, 0)
        logger.log(level, "%s%s", words, f" ({last[1]} times more since)" if last and last[1] else "")


class Publisher:
    """The thread `publisher`: owns the connection, sends what the outbox holds, keeps retained messages current.

    open_link: makes a connection attempt.  version: of defectd, for the status message.  on_command: takes messages
    of `subscriptions`, in the publisher's thread; must not block.  overhear: asked of each first, in the thread of the
    connection; the same.  on_refused: told of each event that became a dead
    letter, with code and reason; the same.  on_acknowledged: told the id of each event that the broker confirmed; the
    same.  Every public method may be called from any thread.
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
        on_command: Callable[[Received], None] | None = None,
        overhear: Callable[[Received], bool] = lambda _received: False,
        on_refused: Callable[[Row, int, str], None] | None = None,
        on_acknowledged: Callable[[str], None] | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._outbox = outbox
        self._topics = topics
        self._clock = clock
        self._settings = settings
        self._release = version
        self._subscriptions = subscriptions
        self._on_command = on_command
        self._on_refused = on_refused
        self._on_acknowledged = on_acknowledged
        self._backoff = backoff or Backoff.to(settings)
        self._rare = _Rare(clock)
        self._caller = Connection(open_link, settings, clock, heard_bytes=MAX_HEARD_BYTES, overhear=overhear)
        self._lock = threading.Lock()
        self._retained: dict[str, bytes] = {}
        self._stale: dict[str, None] = {}
        """Topics whose retained message the broker does not have yet, in the order of change."""
        self._replies: deque[_Message] = deque(maxlen=MAX_REPLIES)
        self._extra: dict[str, Any] = {}
        self._unsaved: set[int] = set()
        """Confirmed events that the outbox could not mark yet."""
        self._suspect: int | None = None
        self._strikes = 0
        self._flaps = 0
        self._narrow = False
        """One event at a time, because a connection ended with several in flight and none confirmed."""
        self._stop_ns: int | None = None
        self._session: _Session | None = None
        self._since_ns = clock.monotonic_ns()
        self._online_since = ""
        self._connections = self._sent = self._acknowledged = self._replayed = self._refused = 0
        self._last_ack_ns: int | None = None
        self._last_error: str | None = None
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    # ---- from any thread -------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Say that there is something to send."""
        self._caller.wake()

    def retain(self, topic: str, payload: dict[str, Any]) -> bool:
        """Keep this as the topic's retained message, now and after each connection; False if there are too many."""
        words = _encoded(payload)
        with self._lock:
            if topic not in self._retained and len(self._retained) >= MAX_RETAINED:
                return False
            self._retained[topic] = words
            self._stale[topic] = None
        self.wake()
        return True

    def forget(self, topic: str) -> None:
        """Have the broker keep nothing on this topic any more."""
        with self._lock:
            if topic in self._retained:
                self._retained[topic] = b""
                self._stale[topic] = None
        self.wake()

    def announce(self, extra: dict[str, Any]) -> None:
        """Set what the status message says beyond online, node, version and since."""
        with self._lock:
            self._extra = dict(extra)
            self._stale[self._topics.status] = None
        self.wake()

    def reply(self, topic: str, payload: dict[str, Any], correlation: bytes | None = None) -> None:
        """Send once, when connected; not kept over a restart. When too much waits, the oldest go."""
        message = _Message(topic, _encoded(payload), retain=False, correlation=correlation)
        with self._lock:
            self._replies.append(message)
            while len(self._replies) > 1 and sum(len(m.payload) for m in self._replies) > MAX_REPLY_BYTES:
                self._replies.popleft()
        self.wake()

    @property
    def packet_limit(self) -> int | None:
        """Bytes of a whole packet that the broker takes, if it is connected and said so."""
        session = self._session
        return None if session is None else session.packet_limit

    def stop(self, timeout_s: float) -> bool:
        """Send what is left, say offline, disconnect; False if events are left (they stay in the outbox)."""
        self._stop_ns = self._clock.monotonic_ns() + int(timeout_s * NS_PER_S)
        self._caller.wake()
        if self._thread.ident is not None:
            self._thread.join(timeout_s + 2.0)
        return self._outbox.depth() == 0 and not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def beat_ns(self) -> int:
        """When the loop last came round."""
        return self._caller.beat_ns

    @property
    def unheard(self) -> int:
        """Commands dropped in a flood, unread."""
        return self._caller.unheard

    def snapshot(self) -> Snapshot:
        session = self._session
        return Snapshot(
            connected=session is not None,
            since_ns=self._since_ns,
            protocol=None if session is None else session.protocol,
            connections=self._connections,
            sent=self._sent,
            acknowledged=self._acknowledged,
            replayed=self._replayed,
            refused=self._refused,
            inflight=0 if session is None else len(session.in_flight),
            depth=self._outbox.depth(),
            last_ack_ns=self._last_ack_ns,
            last_error=self._last_error,
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
                    self._last_error = str(error)
                    self._rare.log(logging.WARNING, f"{error}; {self._waiting_words()}")
                self._rest(self._backoff.next_s())
                if self._stop_ns is not None and (is_last or self._outbox.depth() == 0):
                    return  # a stop grants what still waits one more attempt
        except Exception:
            logger.exception("the publisher has ended: events are stored, but no longer sent")
        finally:
            self._session = None

    def _waiting_words(self) -> str:
        # no count here: words that change would not be held back
        return "events wait in the outbox" if self._outbox.depth() else "no event waits"

    def _connect_and_serve(self) -> None:
        """One connection from the attempt to its end.  Raises BrokerError when it did not end by a stop."""
        link, connected = self._connect()
        now_ns = self._clock.monotonic_ns()
        session = _Session(
            link=link,
            protocol=connected.protocol,
            window=max(1, min(self._settings.inflight, connected.receive_maximum)),
            packet_limit=connected.maximum_packet_size,
            fresh_after=self._outbox.last_seq,
            opened_ns=now_ns,
            progress_ns=now_ns,
        )
        self._came(session, connected)
        said_goodbye = False
        try:
            if self._subscriptions:
                link.subscribe(self._subscriptions)
            while not self._is_drained(session):
                self._look_for_returned(session)
                self._fill(session)
                self._hear(session)
                self._save_acknowledgements()
                self._check_progress(session)
            said_goodbye = self._say_goodbye(session)
        finally:
            if not said_goodbye:
                self._caller.leave(link)
            self._hear_last_words(session)
            self._session = None
            self._since_ns = self._clock.monotonic_ns()
            self._judge(session)
            self._suspect_clash(session)

    def _rest(self, delay_s: float) -> None:
        """Wait between attempts; a stop ends it, new events do not."""
        until_ns = self._clock.monotonic_ns() + int(delay_s * NS_PER_S)
        while self._stop_ns is None:
            left_s = (until_ns - self._clock.monotonic_ns()) / NS_PER_S
            if left_s <= 0:
                return
            self._caller.hear(left_s)

    # ---- connecting ------------------------------------------------------------------------------

    def _connect(self) -> tuple[Link, Connected]:
        lost = _encoded({"online": False, "node": self._topics.node, "reason": "lost"})
        return self._caller.call(lambda: Will(self._topics.status, lost), lambda: self._stop_ns)

    def _came(self, session: _Session, connected: Connected) -> None:
        now_ns = self._clock.monotonic_ns()
        away_s = (now_ns - self._since_ns) / NS_PER_S
        self._connections += 1
        self._since_ns = now_ns
        self._online_since = stamp(self._clock.wall_ns())
        self._session = session
        with self._lock:
            self._stale = dict.fromkeys([self._topics.status, *self._retained])
        host, port, tls = self._settings.address
        self._rare.log(logging.INFO, f"connected to {host}:{port}, MQTT {connected.protocol}{', TLS' if tls else ''}")
        if self._connections > 1 or away_s > 5.0:
            logger.debug("the connection was away for %.1f s", away_s)
        if connected.protocol == "3.1.1" and not self._settings.is_embedded:
            self._rare.log(
                logging.WARNING, "with MQTT 3.1.1 the broker cannot say that it refuses an event: check its access list"
            )

    # ---- sending ---------------------------------------------------------------------------------

    def _fill(self, session: _Session) -> None:
        """Send until the window is full: status and retained messages, replies, then events in order."""
        while len(session.in_flight) < session.window:
            item = self._next_message() or self._next_row(session)
            if item is None:
                return
            if not session.in_flight:
                session.progress_ns = self._clock.monotonic_ns()
            if isinstance(item, Row):
                self._send_row(session, item)
            else:
                self._send_message(session, item)

    def _next_message(self) -> _Message | None:
        with self._lock:
            topic = next(iter(self._stale), None)
            if topic is not None:
                del self._stale[topic]
                payload = self._status() if topic == self._topics.status else self._retained[topic]
                if not payload:
                    del self._retained[topic]
                return _Message(topic, payload, retain=True)
            return self._replies.popleft() if self._replies else None

    def _status(self) -> bytes:
        fixed = {"online": True, "node": self._topics.node, "version": self._release, "since": self._online_since}
        return _encoded({**self._extra, **fixed})

    def _next_row(self, session: _Session) -> Row | None:
        if self._unsaved or (self._narrow and session.in_flight):
            return None
        if session.hold_until_ns is not None:
            if session.rows_in_flight() or self._clock.monotonic_ns() < session.hold_until_ns:
                return None
            session.hold_until_ns = None
            session.cursor = 0
            session.ahead.clear()
        if not session.ahead and self._outbox.depth() > len(session.rows_in_flight()):
            try:
                session.ahead.extend(self._outbox.peek(session.cursor, AHEAD))
            except OutboxError as error:
                self._hold(session, f"events cannot be read: {error}")
                return None
        if not session.ahead:
            return None
        row = session.ahead.popleft()
        session.cursor = row.seq
        return row

    def _look_for_returned(self, session: _Session) -> None:
        """Dead letters that were put back wait below the cursor: begin again at the oldest."""
        now_ns = self._clock.monotonic_ns()
        if now_ns - session.looked_ns < LOOK_S * NS_PER_S:
            return
        session.looked_ns = now_ns
        try:
            returned = self._outbox.has_returned()
        except OutboxError as error:
            self._rare.log(logging.WARNING, f"dead letters cannot be looked for: {error}")
            return
        if returned:
            session.fresh_after = self._outbox.last_seq  # they come late: replayed
            session.hold_until_ns = session.hold_until_ns or now_ns

    def _send_row(self, session: _Session, row: Row) -> None:
        is_replay = row.seq <= session.fresh_after or row.seq in session.tried
        payload = _replayed(row.payload) if is_replay else row.payload
        size = Link.packet_bytes(row.topic, payload)
        if session.packet_limit is not None and size > session.packet_limit:
            reason = f"{size} bytes, and the broker takes {session.packet_limit}"
            self._refuse(session, row, PACKET_TOO_LARGE, reason)
            return
        try:
            mid = session.link.publish(row.topic, payload)
        except ValueError as error:
            self._refuse(session, row, TOPIC_INVALID, str(error))
            return
        session.in_flight[mid] = row
        self._sent += 1
        self._replayed += is_replay

    def _send_message(self, session: _Session, message: _Message) -> None:
        size = Link.packet_bytes(message.topic, message.payload)
        if session.packet_limit is not None and size > session.packet_limit:
            self._rare.log(logging.ERROR, f"{message.topic}: the broker does not take so large a message")
            return
        try:
            mid = session.link.publish(
                message.topic, message.payload, retain=message.retain, correlation=message.correlation
            )
        except ValueError as error:  # a reply goes where its requester wants it
            self._rare.log(logging.WARNING, f"a message cannot be sent: {error}")
            return
        session.in_flight[mid] = message

    # ---- hearing ---------------------------------------------------------------------------------

    def _hear(self, session: _Session) -> None:
        """Wait for something to happen, then take all that has.  Raises BrokerError at the connection's end."""
        self._take(session, self._caller.hear(self._patience_s(session)))
        while self._caller.has_news:
            self._take(session, self._caller.hear(0.0))

    def _hear_last_words(self, session: _Session) -> None:
        """Take what the ended connection still said: confirmations spare a repetition, its end may name a cause."""
        while self._caller.has_news:
            match self._caller.hear(0.0):
                case Acknowledged() as notice:
                    self._acknowledge(session, notice)
                case Disconnected() as notice:
                    session.end = session.end or notice
                case _:
                    pass
        self._save_acknowledgements()

    def _patience_s(self, session: _Session) -> float:
        now_ns = self._clock.monotonic_ns()
        moments = [now_ns + NS_PER_S]
        if session.hold_until_ns is not None and session.hold_until_ns > now_ns:
            moments.append(session.hold_until_ns)
        if self._stop_ns is not None:
            moments.append(max(self._stop_ns - self._goodbye_ns(), now_ns))
        return (min(moments) - now_ns) / NS_PER_S

    def _take(self, session: _Session, notice: Notice | None) -> None:
        match notice:
            case Acknowledged():
                self._acknowledge(session, notice)
            case Disconnected():
                session.end = notice
                raise BrokerError(f"the connection to the broker ended: {notice.reason}")
            case Refused():
                raise BrokerError(str(notice))
            case Subscribed(ok=False, reason=reason):
                self._rare.log(
                    logging.WARNING, f"the broker refuses a subscription (commands, speed or coil): {reason}"
                )
            case Received():
                if self._on_command is not None:
                    self._on_command(notice)
            case _:
                pass

    def _acknowledge(self, session: _Session, notice: Acknowledged) -> None:
        item = session.in_flight.pop(notice.mid, None)
        now_ns = self._clock.monotonic_ns()
        session.progress_ns = now_ns
        if isinstance(item, Row):
            if notice.ok:
                self._unsaved.add(item.seq)
                self._acknowledged += 1
                self._last_ack_ns = now_ns
                if self._on_acknowledged is not None:
                    self._on_acknowledged(item.event_id)
                self._proven(session)
            elif notice.code in NEVER or notice.code == PACKET_TOO_LARGE:
                self._refuse(session, item, notice.code, notice.reason)
            else:
                session.tried.add(item.seq)
                self._hold(session, f"the broker puts events off: {notice.reason}")
        elif item is not None and not notice.ok:
            if item.retain and notice.code not in NEVER:
                session.put_off.append(item)
                session.put_off_until_ns = now_ns + int(HOLD_FIRST_S * NS_PER_S)
            self._rare.log(logging.ERROR, f"the broker refuses {item.topic}: {notice.reason}; check its access list")

    def _proven(self, session: _Session) -> None:
        """An event went through: this connection and what it carries are sound."""
        if not session.acked_any:
            session.acked_any = True
            self._backoff.reset()
        self._narrow = False
        self._strikes = 0
        session.hold_s = HOLD_FIRST_S
        self._last_error = None

    def _save_acknowledgements(self) -> None:
        if not self._unsaved:
            return
        try:
            self._outbox.ack(sorted(self._unsaved))
            self._unsaved.clear()
        except OutboxError as error:
            self._last_error = str(error)
            self._rare.log(logging.ERROR, f"delivered events cannot be marked: {error}")

    def _hold(self, session: _Session, why: str) -> None:
        """Send no events for a while, then all unconfirmed ones again from the oldest."""
        self._last_error = why
        self._rare.log(logging.WARNING, why)
        if session.hold_until_ns is None:
            session.hold_until_ns = self._clock.monotonic_ns() + int(session.hold_s * NS_PER_S)
            session.hold_s = min(session.hold_s * 2, HOLD_LAST_S)

    def _refuse(self, session: _Session, row: Row, code: int, reason: str) -> None:
        try:
            self._outbox.refuse(row.seq, code, reason)
        except OutboxError as error:
            self._hold(session, f"a refused event cannot be put aside: {error}")
            return
        self._refused += 1
        if self._on_refused is not None:
            self._on_refused(row, code, reason)
        self._last_error = f"{row.topic}: {reason}"
        self._rare.log(
            logging.ERROR,
            f"the broker will never take events for {row.topic} ({NEVER.get(code, 'refused')}, code 0x{code:02x}): "
            "they are kept as dead letters, see `defectd dead-letters list`; check the broker's access list and limits",
        )

    # ---- judging the connection --------------------------------------------------------------------

    def _check_progress(self, session: _Session) -> None:
        now_ns = self._clock.monotonic_ns()
        quiet_s = (now_ns - session.progress_ns) / NS_PER_S
        limit_s = STALL_KEEPALIVES * self._settings.keepalive_s
        if session.in_flight and quiet_s > limit_s:
            session.given_up = True
            raise BrokerError(f"the broker has confirmed nothing for {limit_s} s: connecting anew")
        if now_ns - session.opened_ns > STEADY_S * NS_PER_S:
            self._backoff.reset()
        if session.put_off and now_ns >= session.put_off_until_ns:
            with self._lock:
                self._stale |= dict.fromkeys(message.topic for message in session.put_off)
            session.put_off.clear()

    def _judge(self, session: _Session) -> None:
        """Look for an event that ends every connection it is sent on, which 3.1.1 brokers do to large ones."""
        rows = session.rows_in_flight()
        if session.end is None or session.given_up or session.acked_any or not rows:
            return
        if not self._narrow or len(rows) > 1:
            self._narrow = True
            return
        seq = rows[0].seq
        self._strikes = self._strikes + 1 if self._suspect == seq else 1
        self._suspect = seq
        if session.end.code == PACKET_TOO_LARGE or self._strikes >= POISON_STRIKES:
            self._refuse(session, rows[0], session.end.code or 0, f"ends the connection: {session.end.reason}")
            self._strikes = 0

    def _suspect_clash(self, session: _Session) -> None:
        """Not every broker says that another client has taken our place: a link that flaps is told with the advice."""
        lived_s = (self._since_ns - session.opened_ns) / NS_PER_S
        is_odd = session.end is not None and session.end.code is None and not session.given_up
        self._flaps = self._flaps + 1 if is_odd and lived_s < CLASH_S else 0
        if self._flaps >= CLASH_STRIKES:
            self._rare.log(
                logging.WARNING,
                "each connection ends soon after it stands: if neither broker nor network are in trouble, another "
                "client uses the same id: give each node its own name or mqtt.client_id",
            )

    # ---- stopping --------------------------------------------------------------------------------

    def _goodbye_ns(self) -> int:
        return int(GOODBYE_S * NS_PER_S / 2)

    def _is_drained(self, session: _Session) -> bool:
        """Whether a stop was asked for, and all is sent or the time for that is over."""
        if self._stop_ns is None:
            return False
        if self._clock.monotonic_ns() >= self._stop_ns - self._goodbye_ns():
            return True
        with self._lock:
            if self._stale or self._replies:
                return False
        return not session.in_flight and not self._unsaved and self._outbox.depth() == 0

    def _say_goodbye(self, session: _Session) -> bool:
        """Offline, retained, and a clean end, so that the will stays unsaid."""
        session.given_up = True
        self._save_acknowledgements()
        now_ns = self._clock.monotonic_ns()
        until_ns = now_ns + int(GOODBYE_S * NS_PER_S)
        last = {"online": False, "node": self._topics.node, "reason": "stopped", "since": stamp(self._clock.wall_ns())}
        mid = session.link.publish(self._topics.status, _encoded(last), retain=True)
        session.in_flight[mid] = _Message(self._topics.status, b"", retain=True)
        while mid in session.in_flight and (left_ns := until_ns - self._clock.monotonic_ns()) > 0:
            self._take(session, self._caller.hear(left_ns / NS_PER_S))
        self._save_acknowledgements()
        return session.link.disconnect(1.0)


def _encoded(payload: dict[str, Any]) -> bytes:
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _replayed(payload: bytes) -> bytes:
    """The event, marked as one that may have been seen before or comes late."""
    return _encoded({**json.loads(payload), "replayed": True})
