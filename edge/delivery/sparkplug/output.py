"""The second view of the node: a Sparkplug edge node on a connection of its own.

The thread `sparkplug` drives the machine of `sparkplug_node`: it connects, reads the outbox with a cursor of its own,
carries messages between link and machine, and keeps on disk what must survive `kill -9`. It alone decides when to
connect again. Whatever the broker or the host does here, the events in JSON over `mqtt` do not wait for it.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from edge.config import Config, Mqtt
from edge.delivery.mqtt.client import (
    Backoff,
    Connected,
    Disconnected,
    Link,
    Notice,
    OpenLink,
    Received,
    Refused,
    Subscribed,
    Will,
    opener,
)
from edge.delivery.mqtt.connection import Connection
from edge.delivery.outbox.rows import Row
from edge.delivery.sparkplug.edge_node import (
    Counts,
    EdgeNode,
    Fence,
    Identity,
    Leave,
    Phase,
    Publish,
)
from edge.delivery.sparkplug.payload import SEQ_MODULUS, Value
from edge.errors import BrokerError, OutboxError, PayloadError
from edge.host import atomic_files
from edge.host.clock import NS_PER_S, Clock

logger = logging.getLogger(__name__)

LEARN: Final = 500
"""Rows read at a time."""
TURN_S: Final = 0.5
"""Longest wait between two turns of the machine."""
STALL_KEEPALIVES: Final = 3
SAVE_S: Final = 5.0
"""Least time between two writings of the cursor: what it saves is seconds of repetition."""
STEADY_S: Final = 10.0
REMIND_S: Final = 60.0
LEAVE_S: Final = 0.4
"""Of a stop's time, kept for the farewell."""


class Events(Protocol):
    """What is read of the outbox."""

    @property
    def last_seq(self) -> int: ...
    def after(self, seq: int, limit: int) -> Sequence[Row]: ...
    def hold(self, reader: str, after_seq: int) -> None: ...
    def depth(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Memory:
    """What survives the process: the number of the last CONNECT, and the newest event that needs no repetition."""

    bd_seq: int | None
    settled_seq: int

    @classmethod
    def read(cls, path: Path, newest_seq: int) -> Memory:
        """newest_seq: where a view begins that has never been before."""
        try:
            said = json.loads(path.read_text("ascii"))
            memory = cls(int(said["bd_seq"]) % SEQ_MODULUS, int(said["settled_seq"]))
        except FileNotFoundError:
            return cls(None, newest_seq)
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            logger.warning("%s cannot be read (%s): bdSeq begins anew, older events are not repeated", path, error)
            return cls(None, newest_seq)
        if not 0 <= memory.settled_seq <= newest_seq:
            logger.warning("%s is about another outbox: events before seq %d are not repeated", path, newest_seq)
            return cls(memory.bd_seq, newest_seq)
        return memory

    def write(self, path: Path) -> None:
        """Durable when it returns.  Raises OSError."""
        words = json.dumps({"bd_seq": self.bd_seq, "settled_seq": self.settled_seq}) + "\n"
        atomic_files.replace(path, words.encode("ascii"))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How the view stands."""

    phase: Phase
    bd_seq: int | None
    sent_seq: int
    settled_seq: int
    counts: Counts
    connections: int
    last_error: str | None


@dataclass(frozen=True, slots=True)
class _Report:
    fps: float
    p50_ms: float
    p99_ms: float
    coverage: Mapping[str, Any]


class SparkplugOutput:
    """The thread `sparkplug`. Every public method may be called from any thread, and none of them waits.

    open_link: makes a connection attempt, with a client id of its own.  settings: how it connects.  resend_s: None:
    twice the keepalive.  memory_path: a file in the state directory.
    """

    name: Final = "sparkplug"
    """Of its thread."""

    def __init__(
        self,
        open_link: OpenLink,
        events: Events,
        identity: Identity,
        clock: Clock,
        settings: Mqtt,
        memory_path: Path,
        *,
        resend_s: float | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._events = events
        self._identity = identity
        self._clock = clock
        self._settings = settings
        self._memory_path = memory_path
        self._backoff = backoff or Backoff.to(settings)
        self._saved = Memory.read(memory_path, events.last_seq)
        self._saved_ns = clock.monotonic_ns()
        events.hold(self.name, self._saved.settled_seq)
        self._node = EdgeNode(
            identity,
            clock,
            settle_ns=int((2.0 * settings.keepalive_s if resend_s is None else resend_s) * NS_PER_S),
            bd_seq=self._saved.bd_seq,
            settled_seq=self._saved.settled_seq,
        )
        self._node.count_from(events.last_seq + 1)
        self._caller = Connection(open_link, settings, clock)
        self._lock = threading.Lock()
        self._values: dict[str, Value] = {}
        self._states: dict[str, tuple[str, str | None]] = {}
        self._reports: dict[str, _Report] = {}
        """The newest of each, until the thread takes them: what is merged needs no queue."""
        self._stop_ns: int | None = None
        self._ended_with_all_sent = False
        self._connections = 0
        self._last_error: str | None = None
        self._told = ("", 0)
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    # ---- from any thread -------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Say that there are new events."""
        self._caller.wake()

    def set_properties(self, values: Mapping[str, Value]) -> None:
        """Newest values of the node's own metrics, by name."""
        with self._lock:
            self._values.update(values)
        self.wake()

    def state(self, camera: str, message: Mapping[str, Any]) -> None:
        """message: the state message of the camera."""
        with self._lock:
            self._states[camera] = str(message["state"]), message.get("reason")
        self.wake()

    def report(self, camera: str, *, fps: float, p50_ms: float, p99_ms: float, coverage: Mapping[str, Any]) -> None:
        """One camera's last window.  coverage: the coverage message."""
        with self._lock:
            self._reports[camera] = _Report(fps, p50_ms, p99_ms, coverage)
            self._values["Outbox/Depth"] = self._events.depth()
        self.wake()

    def ask_stop(self, timeout_s: float) -> None:
        """Begin to stop: send what is left, say NDEATH, disconnect."""
        if self._stop_ns is None:
            self._stop_ns = self._clock.monotonic_ns() + int(timeout_s * NS_PER_S)
            self._caller.wake()

    def stop(self, timeout_s: float) -> bool:
        """Stop and wait for it; False if events are left (they come as history next time)."""
        self.ask_stop(timeout_s)
        if self._thread.ident is not None:
            self._thread.join(timeout_s + 1.0)
        return not self._thread.is_alive() and self._ended_with_all_sent

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def beat_ns(self) -> int:
        """When the loop last came round."""
        return self._caller.beat_ns

    def snapshot(self) -> Snapshot:
        node = self._node
        return Snapshot(
            phase=node.phase,
            bd_seq=node.bd_seq,
            sent_seq=node.sent_seq,
            settled_seq=node.settled_seq,
            counts=node.counts,
            connections=self._connections,
            last_error=self._last_error,
        )

    # ---- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._stop_ns is None:
                try:
                    self._connect_and_serve()
                except BrokerError as error:
                    self._last_error = str(error)
                    self._tell(logging.WARNING, f"Sparkplug: {error}")
                self._rest(self._backoff.next_s())
        except Exception:
            logger.exception("the Sparkplug view has ended: its host hears nothing more")
        finally:
            self._node.lost()
            self._save()

    def _connect_and_serve(self) -> None:
        """One connection, from the attempt to its end.  Raises BrokerError if it was not meant to."""
        self._learn()
        link, connected = self._connect()
        opened_ns = self._clock.monotonic_ns()
        self._connections += 1
        said_goodbye = False
        try:
            self._node.connected(connected.maximum_packet_size)
            link.subscribe(self._identity.filters)
            while not said_goodbye:
                self._hear()
                if self._is_done():
                    self._ended_with_all_sent = self._is_all_sent() and self._node.phase == "born"
                    self._node.leave("stopped")
                else:
                    self._turn()
                said_goodbye = self._perform(link)
                self._check_answers(opened_ns)
        finally:
            self._node.lost()
            self._save()
            if said_goodbye or self._clock.monotonic_ns() - opened_ns > STEADY_S * NS_PER_S:
                self._backoff.reset()
            self._caller.leave(link)

    def _turn(self) -> None:
        """Let the machine know what is new, and let it speak as far as it may."""
        self._learn()
        if self._stop_ns is not None:
            self._node.hurry()
        room = self._node.room()
        if room and self._node.sent_seq < self._node.known_seq:
            rows = self._read(self._node.sent_seq, room)
            self._node.send([row for row in rows if row.seq <= self._node.known_seq])
        self._node.tick()
        if self._clock.monotonic_ns() - self._saved_ns > SAVE_S * NS_PER_S:
            self._save()

    def _apply(self) -> None:
        with self._lock:
            values, self._values = self._values, {}
            states, self._states = self._states, {}
            reports, self._reports = self._reports, {}
        self._node.node_values(values)
        for camera, (state, reason) in states.items():
            self._node.camera_state(camera, state, reason)
        for camera, report in reports.items():
            self._node.camera_report(
                camera, fps=report.fps, p50_ms=report.p50_ms, p99_ms=report.p99_ms, coverage=report.coverage
            )

    def _learn(self) -> None:
        """Read up to the newest event, so that a birth can say it."""
        self._apply()
        while self._stop_ns is None or self._left_s() > LEAVE_S:
            if self._node.known_seq >= self._events.last_seq:
                return
            rows = self._read(self._node.known_seq, LEARN)
            if not rows:
                return
            self._node.learn(rows)

    def _read(self, after_seq: int, limit: int) -> Sequence[Row]:
        """The next events; none while the disk will not give them."""
        try:
            return self._events.after(after_seq, limit)
        except OutboxError as error:
            self._last_error = str(error)
            self._tell(logging.ERROR, f"Sparkplug: events cannot be read: {error}")
            return ()

    def _perform(self, link: Link) -> bool:
        """Carry out what the machine wants; True when that was to leave."""
        for action in self._node.take():
            match action:
                case Publish(topic, payload):
                    link.publish(topic, payload, qos=0)
                case Fence():
                    link.subscribe(self._identity.filters[:1])
                case Leave(reason):
                    self._tell(logging.INFO, f"Sparkplug: the session ends: {reason}")
                    return link.disconnect(LEAVE_S, with_will=True)
        return False

    def _rest(self, delay_s: float) -> None:
        until_ns = self._clock.monotonic_ns() + int(delay_s * NS_PER_S)
        while self._stop_ns is None and (left_ns := until_ns - self._clock.monotonic_ns()) > 0:
            self._caller.hear(left_ns / NS_PER_S)

    # ---- connecting ------------------------------------------------------------------------------

    def _connect(self) -> tuple[Link, Connected]:
        def next_will() -> Will:
            will = self._node.connect()
            self._save()
            return Will(will.topic, will.payload, retain=False)

        link, connected = self._caller.call(next_will, lambda: None if self._stop_ns is None else 0)
        host, port, _ = self._settings.address
        self._tell(logging.INFO, f"Sparkplug: connected to {host}:{port}, MQTT {connected.protocol}")
        return link, connected

    # ---- hearing ---------------------------------------------------------------------------------

    def _hear(self) -> None:
        """Wait for something to happen, then take all that has.  Raises BrokerError at the connection's end."""
        self._take(self._caller.hear(TURN_S if self._node.room() == 0 or self._is_all_sent() else 0.0))
        while self._caller.has_news:
            self._take(self._caller.hear(0.0))

    def _take(self, notice: Notice | None) -> None:
        match notice:
            case Subscribed(ok=ok, reason=reason):
                if not ok:
                    words = "a rebirth asked for, or the state of the host, may not be heard; check its access list"
                    self._tell(logging.WARNING, f"Sparkplug: the broker refuses a subscription ({reason}): {words}")
                phase = self._node.phase
                self._node.answered()
                if phase == "subscribing" and self._node.phase == "waiting":
                    self._tell(logging.INFO, f"Sparkplug: waiting for the host {self._identity.host}")
            case Received(topic=topic, payload=payload):
                try:
                    self._node.received(topic, payload)
                except PayloadError as error:
                    self._tell(logging.WARNING, f"Sparkplug: a message on {topic} makes no sense: {error}")
            case Disconnected(reason=reason):
                raise BrokerError(f"the connection to the broker ended: {reason}")
            case Refused():
                raise BrokerError(str(notice))
            case _:
                pass

    def _check_answers(self, opened_ns: int) -> None:
        limit_ns = STALL_KEEPALIVES * self._settings.keepalive_s * NS_PER_S
        waiting_ns = self._node.unanswered_ns()
        if self._node.phase == "subscribing":
            waiting_ns = self._clock.monotonic_ns() - opened_ns
        if waiting_ns > limit_ns:
            raise BrokerError(f"the broker has answered nothing for {limit_ns // NS_PER_S} s: connecting anew")

    # ---- stopping and remembering ----------------------------------------------------------------

    def _left_s(self) -> float:
        assert self._stop_ns is not None
        return (self._stop_ns - self._clock.monotonic_ns()) / NS_PER_S

    def _is_all_sent(self) -> bool:
        return self._node.sent_seq >= self._events.last_seq

    def _is_done(self) -> bool:
        """Whether a stop was asked for, and all is sent, cannot be sent, or the time for that is over."""
        if self._stop_ns is None:
            return False
        return self._is_all_sent() or self._node.phase != "born" or self._left_s() <= LEAVE_S

    def _save(self) -> None:
        """Make the machine's memory durable. A disk that fails costs repetitions, not the view."""
        memory = Memory(self._node.bd_seq, self._node.settled_seq)
        self._saved_ns = self._clock.monotonic_ns()
        if memory == self._saved:
            return
        try:
            memory.write(self._memory_path)
        except OSError as error:
            self._tell(logging.ERROR, f"{self._memory_path} cannot be written: {error.strerror}")
            return
        self._saved = memory
        self._events.hold(self.name, memory.settled_seq)

    def _tell(self, level: int, words: str) -> None:
        """The same words once a minute."""
        now_ns = self._clock.monotonic_ns()
        if words == self._told[0] and now_ns - self._told[1] < REMIND_S * NS_PER_S:
            return
        self._told = words, now_ns
        logger.log(level, "%s", words)


def views_of(settings: Config, events: Events, clock: Clock) -> tuple[SparkplugOutput, ...]:
    """The view that the configuration asks for, if it does."""
    ours = settings.sparkplug
    if not ours.enabled:
        return ()
    connection = ours.connection(settings.mqtt)
    client_id = f"{connection.client_id or f'defectd-{settings.node}'}-sparkplug"
    identity = Identity(
        group=ours.group_id,
        node=ours.edge_node_id or settings.node,
        devices=tuple(camera.name for camera in settings.active_cameras),
        host=ours.primary_host,
        legacy_state=ours.legacy_state,
    )
    view = SparkplugOutput(
        opener(connection.model_copy(update={"client_id": client_id}), settings.node),
        events,
        identity,
        clock,
        connection,
        settings.state.sparkplug,
        resend_s=ours.resend_s,
    )
    return (view,)
