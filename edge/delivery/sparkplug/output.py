"""The Sparkplug output: an edge node on a connection of its own.

The thread `sparkplug` drives the state machine of `edge_node`: it connects, reads the outbox with its own cursor,
carries messages between the connection and the state machine, and keeps on disk what must survive `kill -9`. This
thread alone decides when to connect again. The delivery of JSON events over `mqtt` never waits for it.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge.config import Mqtt
from edge.coverage.strip_position import StripReading
from edge.delivery.mqtt.client import Link, OpenLink, opener
from edge.delivery.mqtt.connection import STALL_KEEPALIVES, STEADY_S, Connection, backoff_for
from edge.delivery.mqtt.notices import Connected, Disconnected, Notice, Received, Refused, Subscribed, Will
from edge.delivery.outbox.rows import Row
from edge.delivery.output import CameraReport, Events, NodeProperties, NodeStatus, OutputContext
from edge.delivery.sparkplug.edge_node import EdgeNode, Fence, Identity, Leave, Publish
from edge.delivery.sparkplug.metrics import OUTBOX_DEPTH, property_values, strip_values
from edge.delivery.sparkplug.payload import SEQ_MODULUS, Value
from edge.errors import BrokerError, OutboxError, PayloadError
from edge.host import atomic_files, regular_file
from edge.host.backoff import Backoff
from edge.host.clock import NS_PER_S, Clock
from edge.host.log_throttle import LogThrottle
from edge.host.worker import Worker

log = logging.getLogger(__name__)

MAX_BYTES: Final = 4096
"""Of the memory file."""
READ_ROWS: Final = 500
"""Rows read at a time."""
TURN_S: Final = 0.5
"""Longest wait between two turns of the state machine."""
SAVE_S: Final = 5.0
"""Minimum time between two writes of the cursor; a crash repeats the events of that time."""
LEAVE_S: Final = 0.4
"""The part of a stop's time that is reserved for the disconnect."""
JOIN_S: Final = 1.0
"""How much longer than its time a stop waits for the thread."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What survives the process: the number of the last CONNECT, and the newest event that need not be repeated."""

    bd_seq: int | None
    settled_seq: int

    @classmethod
    def read(cls, path: Path, newest_seq: int, start_seq: int) -> Memory:
        """newest_seq: of the outbox.  start_seq: the cursor of an output that has never run before."""
        try:
            fields = json.loads(regular_file.read(path, MAX_BYTES))
            memory = cls(int(fields["bd_seq"]) % SEQ_MODULUS, int(fields["settled_seq"]))
        except FileNotFoundError:
            return cls(None, start_seq)
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            log.warning("%s cannot be read (%s): bdSeq starts again, older events are not repeated", path, error)
            return cls(None, start_seq)
        if not 0 <= memory.settled_seq <= newest_seq:
            log.warning("%s belongs to another outbox: events up to seq %d are not repeated", path, start_seq)
            return cls(memory.bd_seq, start_seq)
        return memory

    def write(self, path: Path) -> None:
        """Durable when it returns.  Raises OSError."""
        text = json.dumps({"bd_seq": self.bd_seq, "settled_seq": self.settled_seq}) + "\n"
        atomic_files.replace(path, text.encode("ascii"))


class SparkplugOutput:
    """The thread `sparkplug`.  Any thread may call any public method; only `stop` waits.

    open_link: makes a connection attempt, with its own client id.  settings: of the connection.  memory_path: a file
    in the state directory.  resend_s: None: twice the keepalive.  first_seq: of the first event of this run of the
    daemon; None: the next one.
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
        first_seq: int | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._events = events
        self._identity = identity
        self._clock = clock
        self._settings = settings
        self._memory_path = memory_path
        self._backoff = backoff or backoff_for(settings)
        newest_seq = events.last_seq
        first_seq = newest_seq + 1 if first_seq is None else first_seq
        self._saved = Memory.read(memory_path, newest_seq, first_seq - 1)
        self._saved_ns = clock.monotonic_ns()
        events.hold(self.name, self._saved.settled_seq)
        self._node = EdgeNode(
            identity,
            clock,
            settle_ns=int((2.0 * settings.keepalive_s if resend_s is None else resend_s) * NS_PER_S),
            bd_seq=self._saved.bd_seq,
            settled_seq=self._saved.settled_seq,
        )
        self._node.count_from(first_seq)
        self._connection = Connection(open_link, settings, clock)
        self._lock = threading.Lock()
        self._values: dict[str, Value] = {}
        self._states: dict[str, tuple[str, str | None]] = {}
        self._reports: dict[str, CameraReport] = {}
        """The newest of each, until the thread takes them: merged values need no queue."""
        self._stop_ns: int | None = None
        self._has_sent_all = False
        self._throttle = LogThrottle(log)
        self._worker = Worker(self.name, self._run, clock)

    @classmethod
    def of(cls, context: OutputContext) -> SparkplugOutput:
        """The output that the configuration describes."""
        settings, ours = context.settings, context.settings.sparkplug
        connection = ours.connection(settings.mqtt)
        client_id = f"{connection.client_id or f'defectd-{settings.node}'}-sparkplug"
        identity = Identity(
            group=ours.group_id,
            node=ours.edge_node_id or settings.node,
            devices=tuple(camera.name for camera in settings.active_cameras),
            host=ours.primary_host,
            legacy_state=ours.legacy_state,
        )
        return cls(
            opener(connection.model_copy(update={"client_id": client_id}), settings.node),
            context.events,
            identity,
            context.clock,
            connection,
            settings.state.sparkplug,
            resend_s=ours.resend_s,
            first_seq=context.first_seq,
        )

    # ---- from any thread -------------------------------------------------------------------------

    def start(self) -> None:
        self._worker.start()

    def wake(self) -> None:
        """The outbox holds new events."""
        self._connection.wake()

    def set_properties(self, properties: NodeProperties) -> None:
        self._set(property_values(properties))

    def set_strip(self, reading: StripReading) -> None:
        self._set(strip_values(reading))

    def set_node(self, status: NodeStatus) -> None:
        """Sparkplug reports what the other methods bring."""

    def _set(self, values: Mapping[str, Value]) -> None:
        with self._lock:
            self._values.update(values)
        self.wake()

    def state(self, camera: str, message: Mapping[str, Any]) -> None:
        """message: the state message of the camera."""
        with self._lock:
            self._states[camera] = str(message["state"]), message.get("reason")
        self.wake()

    def report(self, report: CameraReport) -> None:
        depth = self._events.depth()
        with self._lock:
            self._reports[report.camera] = report
            self._values[OUTBOX_DEPTH] = depth
        self.wake()

    def ask_stop(self, timeout_s: float) -> None:
        """Start to stop: send what is left, then NDEATH, then disconnect.  Does not wait."""
        if self._stop_ns is None:
            self._stop_ns = self._clock.monotonic_ns() + int(timeout_s * NS_PER_S)
            self._connection.wake()

    def stop(self, timeout_s: float) -> bool:
        """Stop and wait for the end.  False when events are left: they are sent as history after the next start."""
        self.ask_stop(timeout_s)
        return self._worker.join(timeout_s + JOIN_S) and self._has_sent_all

    @property
    def alive(self) -> bool:
        return self._worker.alive

    @property
    def beat_ns(self) -> int:
        """When the loop last came round."""
        return self._connection.beat_ns

    # ---- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._stop_ns is None:
                try:
                    self._connect_and_serve()
                except BrokerError as error:
                    self._log(logging.WARNING, f"Sparkplug: {error}")
                self._rest(self._backoff.next_s())
        finally:
            self._node.lost()
            self._save()

    def _connect_and_serve(self) -> None:
        """One connection, from the attempt to its end.  Raises BrokerError unless we ended it."""
        self._learn()
        link, connected = self._connect()
        opened_ns = self._clock.monotonic_ns()
        has_left = False
        try:
            self._node.connected(connected.maximum_packet_size)
            link.subscribe(self._identity.filters)
            while not has_left:
                self._receive()
                if self._is_done():
                    self._has_sent_all = self._is_all_sent() and self._node.phase == "born"
                    self._node.leave("stopped")
                else:
                    self._turn()
                has_left = self._perform(link)
                self._check_answers(opened_ns)
        finally:
            self._node.lost()
            self._save()
            if has_left or self._clock.monotonic_ns() - opened_ns > STEADY_S * NS_PER_S:
                self._backoff.reset()
            self._connection.drop(link)

    def _turn(self) -> None:
        """Give the state machine what is new, and let it send what it may."""
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
        for report in reports.values():
            self._node.camera_report(report)

    def _learn(self) -> None:
        """Read up to the newest event, so that a birth carries it."""
        self._apply()
        while self._stop_ns is None or self._left_s() > LEAVE_S:
            if self._node.known_seq >= self._events.last_seq:
                return
            rows = self._read(self._node.known_seq, READ_ROWS)
            if not rows:
                return
            self._node.learn(rows)

    def _read(self, after_seq: int, limit: int) -> Sequence[Row]:
        """The next events; none while the disk fails."""
        try:
            return self._events.after(after_seq, limit)
        except OutboxError as error:
            self._log(logging.ERROR, f"Sparkplug: events cannot be read: {error}")
            return ()

    def _perform(self, link: Link) -> bool:
        """Carry out the actions of the state machine.  True when the last one was to leave."""
        for action in self._node.take():
            match action:
                case Publish(topic, payload):
                    link.publish(topic, payload, qos=0)
                case Fence():
                    link.subscribe(self._identity.filters[:1])
                case Leave(reason):
                    self._log(logging.INFO, f"Sparkplug: the session ends: {reason}")
                    return link.disconnect(LEAVE_S, with_will=True)
        return False

    def _rest(self, delay_s: float) -> None:
        until_ns = self._clock.monotonic_ns() + int(delay_s * NS_PER_S)
        while self._stop_ns is None and (left_ns := until_ns - self._clock.monotonic_ns()) > 0:
            self._connection.receive(left_ns / NS_PER_S)

    # ---- connecting ------------------------------------------------------------------------------

    def _connect(self) -> tuple[Link, Connected]:
        def next_will() -> Will:
            will = self._node.connect()
            self._save()
            return Will(will.topic, will.payload, retain=False)

        link, connected = self._connection.connect(next_will, lambda: None if self._stop_ns is None else 0)
        host, port, _ = self._settings.address
        self._log(logging.INFO, f"Sparkplug: connected to {host}:{port}, MQTT {connected.protocol}")
        return link, connected

    # ---- receiving -------------------------------------------------------------------------------

    def _receive(self) -> None:
        """Wait for a notice, then take all that came.  Raises BrokerError at the end of the connection."""
        self._take(self._connection.receive(TURN_S if self._node.room() == 0 or self._is_all_sent() else 0.0))
        while self._connection.has_notices:
            self._take(self._connection.receive(0.0))

    def _take(self, notice: Notice | None) -> None:
        match notice:
            case Subscribed(ok=ok, reason=reason):
                if not ok:
                    words = "requests for a rebirth, or the host's state, may not arrive; check its access list"
                    self._log(logging.WARNING, f"Sparkplug: the broker refuses a subscription ({reason}): {words}")
                phase = self._node.phase
                self._node.answered()
                if phase == "subscribing" and self._node.phase == "waiting":
                    self._log(logging.INFO, f"Sparkplug: waiting for the host {self._identity.host}")
            case Received(topic=topic, payload=payload):
                try:
                    self._node.received(topic, payload)
                except PayloadError as error:
                    self._log(logging.WARNING, f"Sparkplug: a message on {topic} is invalid: {error}")
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
            raise BrokerError(f"the broker has answered nothing for {limit_ns // NS_PER_S} s: connecting again")

    # ---- stopping and remembering ----------------------------------------------------------------

    def _left_s(self) -> float:
        assert self._stop_ns is not None
        return (self._stop_ns - self._clock.monotonic_ns()) / NS_PER_S

    def _is_all_sent(self) -> bool:
        return self._node.sent_seq >= self._events.last_seq

    def _is_done(self) -> bool:
        """Whether the output is stopping, and everything is sent, cannot be sent, or its time is over."""
        if self._stop_ns is None:
            return False
        return self._is_all_sent() or self._node.phase != "born" or self._left_s() <= LEAVE_S

    def _save(self) -> None:
        """Make the state machine's memory durable. A disk that fails costs repetitions, not the output."""
        if self._stop_ns is not None and self._left_s() < -JOIN_S:
            return  # this output hung and was left behind: the file belongs to its successor
        memory = Memory(self._node.bd_seq, self._node.settled_seq)
        self._saved_ns = self._clock.monotonic_ns()
        if memory == self._saved:
            return
        try:
            memory.write(self._memory_path)
        except OSError as error:
            self._log(logging.ERROR, f"{self._memory_path} cannot be written: {error.strerror}")
            return
        self._saved = memory
        self._events.hold(self.name, memory.settled_seq)

    def _log(self, level: int, message: str) -> None:
        self._throttle.write(level, message, self._clock.monotonic_ns())
