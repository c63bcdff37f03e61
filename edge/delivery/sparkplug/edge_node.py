"""A Sparkplug 3.0 edge node as a state machine without threads, sockets or files: inputs go in, messages come out.

One node, one device per camera. Inputs are methods; `take` returns the actions that they caused, in order. A message
gets its sequence number when it is put into that list, and the caller sends the list before the next input. So every
number is used: a hole would make the host request a new birth.

QoS 0, which the specification demands, cannot carry "no event is lost". Therefore:

- Every event of the node is sent as NDATA in the order of its `seq` (metrics `Event/...`), whatever the state of its
  camera, and defects also as DDATA of their camera (`Last Defect/...`).
- Messages are followed by a fence: a subscription that is requested again. A broker answers in order, so its answer
  proves that it received everything before. Without answers the machine sends no more than a window of messages.
- An event is settled when the broker answered a fence that was sent `settle_ns` later, and the host had not gone
  offline by then. What is not settled when a session ends, or when the host requests a new birth, is sent again.
- An event that was known when the last birth was sent is history: `is_historical`, with its own time. The birth
  itself has the newest values.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from edge.delivery.outbox.rows import Row
from edge.delivery.output import CameraReport
from edge.delivery.sparkplug import host_state
from edge.delivery.sparkplug.event_metrics import ParsedEvent
from edge.delivery.sparkplug.metric_table import MetricTable
from edge.delivery.sparkplug.metrics import (
    BD_SEQ,
    DEVICE_METRICS,
    EVENT_COUNT,
    EVENTS_LOST,
    LAST_DEFECT,
    NODE_METRICS,
    REBIRTH,
    STATE,
    STATE_REASON,
    report_values,
)
from edge.delivery.sparkplug.payload import SEQ_MODULUS, STALE, DataType, Metric, Payload, Value, decode, encode
from edge.errors import PayloadError
from edge.host.clock import NS_PER_MS, NS_PER_S, Clock

NAMESPACE: Final = "spBv1.0"
WINDOW: Final = 200
"""Messages that may be sent and not yet be covered by an answered fence."""
REBIRTH_S: Final = 2.0
"""Minimum time between two births in one session: a flood of requests causes one birth in each interval."""
DEAD_STATES: Final = {"no_signal"}
"""Camera states without pictures: the device is dead."""

Verb = Literal["NBIRTH", "NDEATH", "NDATA", "NCMD", "DBIRTH", "DDEATH", "DDATA", "DCMD"]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this edge node is, and whom it waits for.

    host: the primary host application; None: the node sends its birth as soon as it is connected.  legacy_state: that
    host publishes ONLINE and OFFLINE as text on STATE/HOST, as before Sparkplug 3.0.
    """

    group: str
    node: str
    devices: tuple[str, ...]
    host: str | None = None
    legacy_state: bool = False

    def topic(self, verb: Verb, device: str | None = None) -> str:
        base = f"{NAMESPACE}/{self.group}/{verb}/{self.node}"
        return base if device is None else f"{base}/{device}"

    @property
    def state_topic(self) -> str | None:
        if self.host is None:
            return None
        return f"STATE/{self.host}" if self.legacy_state else f"{NAMESPACE}/STATE/{self.host}"

    @property
    def filters(self) -> tuple[str, ...]:
        """Topic filters to subscribe to."""
        commands = (self.topic("NCMD"), self.topic("DCMD", "+"))
        return commands if self.state_topic is None else (*commands, self.state_topic)


@dataclass(frozen=True, slots=True)
class Publish:
    """Send this, QoS 0, not retained."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Fence:
    """Request an answer of the broker, which follows everything sent before; report it with `answered`."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The NDEATH is sent: disconnect such that the broker also publishes the will, which only MQTT 5 can request."""

    reason: str


Action = Publish | Fence | Leave
Phase = Literal["away", "subscribing", "waiting", "born"]


@dataclass(frozen=True, slots=True)
class Counts:
    """What happened since the state machine was made."""

    births: int = 0
    rebirths: int = 0
    events: int = 0
    """NDATA of events, repetitions included."""
    history: int = 0
    """How many of these were marked as history."""
    lost: int = 0
    """Events that the outbox dropped before this output could send them."""
    commands_refused: int = 0
    states_ignored: int = 0


class EdgeNode:
    """The state machine.  Owned by one thread.

    bd_seq: of the last CONNECT ever made, None before the first.  settled_seq: the newest event that need not be sent
    again.  settle_ns: see the module; usually twice the keepalive.
    """

    def __init__(
        self, identity: Identity, clock: Clock, *, settle_ns: int, bd_seq: int | None, settled_seq: int
    ) -> None:
        self.identity = identity
        self.bd_seq = bd_seq
        self.settled_seq = settled_seq
        self.sent_seq = settled_seq
        self.known_seq = settled_seq
        self.phase: Phase = "away"
        self.counts = Counts()
        self._clock = clock
        self._settle_ns = settle_ns
        self._fence_every_ns = settle_ns // 4
        self._checked_seq = settled_seq
        """Lost events are counted up to this one."""
        self._first_new_seq: int | None = None
        self._actions: list[Action] = []
        now_ms = self._now_ms()
        self._node = MetricTable(NODE_METRICS, 1, now_ms)
        first = 1 + len(NODE_METRICS)
        self._devices = {
            device: MetricTable(DEVICE_METRICS, first + number * len(DEVICE_METRICS), now_ms)
            for number, device in enumerate(identity.devices)
        }
        self._alive = dict.fromkeys(identity.devices, False)
        self._event_counts = dict.fromkeys(identity.devices, 0)
        self._node.set(EVENTS_LOST, 0, now_ms)
        for table in self._devices.values():
            table.set(EVENT_COUNT, 0, now_ms)
        self._start_over()

    def _start_over(self) -> None:
        """Reset the state of one connection."""
        self._seq = 0
        self._known_at_birth = 0
        self._known_at_device_birth = dict.fromkeys(self._devices, 0)
        self._born_ns: int | None = None
        self._rebirth_requested = False
        self._host_timestamp: int | None = None
        self._host_online = False
        self._packet_limit: int | None = None
        self._since_fence = 0
        self._fence: _Fence | None = None
        self._fenced_ns = 0
        self._fences: deque[_Fence] = deque()
        self.sent_seq = self.settled_seq

    def take(self) -> tuple[Action, ...]:
        """The actions that the inputs since the last call caused. Send them before the next input."""
        actions = tuple(self._actions)
        self._actions.clear()
        return actions

    # ---- the connection --------------------------------------------------------------------------

    def connect(self) -> Publish:
        """Prepare a CONNECT.  Returns its will. The caller makes `bd_seq` durable before it sends the CONNECT."""
        self._start_over()
        self.bd_seq = 0 if self.bd_seq is None else (self.bd_seq + 1) % SEQ_MODULUS
        return self._death()

    def connected(self, packet_limit: int | None = None) -> None:
        """The broker accepted the connection.  packet_limit: bytes of a whole packet."""
        self._packet_limit = packet_limit
        self.phase = "subscribing"

    def answered(self) -> None:
        """The broker has answered the subscription, or a fence."""
        if self.phase == "subscribing":
            self.phase = "waiting"
            if self.identity.host is None or self._host_online:
                self._birth()
        elif self._fence is not None:
            self._settle(self._fence)
            self._since_fence -= self._fence.messages
            self._fence = None

    def lost(self) -> None:
        """The connection has ended, from either side."""
        self.phase = "away"
        self._start_over()

    def leave(self, reason: str) -> None:
        """End the session on purpose."""
        if self.phase == "away":
            return
        self._actions += [self._death(), Leave(reason)]
        self.phase = "away"

    # ---- the host ----------------------------------------------------------------------------------

    def received(self, topic: str, payload: bytes) -> None:
        """A message of a subscription.  Counts invalid ones and raises PayloadError."""
        try:
            if topic == self.identity.state_topic:
                self._update_host(
                    *host_state.parsed_legacy(payload) if self.identity.legacy_state else host_state.parsed(payload)
                )
            elif topic == self.identity.topic("NCMD"):
                self._command(decode(payload))
            else:  # a device has no metric that can be written
                self._count(commands_refused=1)
        except PayloadError:
            if topic == self.identity.state_topic:
                self._count(states_ignored=1)
            else:
                self._count(commands_refused=1)
            raise

    def _update_host(self, online: bool, timestamp: int | None) -> None:  # noqa: FBT001 (two fields of a message)
        if timestamp is not None:
            if self._host_timestamp is not None and timestamp < self._host_timestamp:
                self._count(states_ignored=1)
                return
            self._host_timestamp = timestamp
        self._host_online = online  # a broker may deliver it before it answers the subscription
        if online and self.phase == "waiting":
            self._birth()
        elif not online and self.phase == "born":
            self.leave(f"the primary host {self.identity.host} is offline")

    def _command(self, payload: Payload) -> None:
        for metric in payload.metrics:
            if metric.name == REBIRTH and metric.value is True:
                self._rebirth_requested = self.phase == "born"
            else:
                self._count(commands_refused=1)
        self._rebirth_if_due()

    def hurry(self) -> None:
        """The node is stopping: send a birth that still waits for its interval now, as it blocks all data."""
        self._rebirth_if_due(at_once=True)

    def _rebirth_if_due(self, *, at_once: bool = False) -> None:
        if not self._rebirth_requested or self._born_ns is None:
            return
        if at_once or self._clock.monotonic_ns() - self._born_ns >= REBIRTH_S * NS_PER_S:
            self._count(rebirths=1)
            self.sent_seq = self.settled_seq  # the host asks because it missed something
            self._fences.clear()
            if self._fence is not None:
                self._fence = replace(self._fence, seq=self.settled_seq)
            self._birth()

    # ---- values of the daemon --------------------------------------------------------------------------

    def node_values(self, values: Mapping[str, Value]) -> None:
        """The newest values of node metrics, by name."""
        for name, value in values.items():
            self._node.set(name, value, self._now_ms())

    def camera_state(self, camera: str, state: str, reason: str | None) -> None:
        """The state of a camera, which decides whether its device is alive."""
        table = self._devices.get(camera)
        if table is None:
            return
        table.set(STATE, state, self._now_ms())
        table.set(STATE_REASON, reason or "", self._now_ms())
        table.set_unreliable(LAST_DEFECT if state != "running" else {})
        alive = state not in DEAD_STATES
        if alive == self._alive[camera]:
            return
        self._alive[camera] = alive
        if self.phase == "born" and not self._rebirth_requested:
            if alive:
                self._device_birth(camera)
            else:
                self._send("DDEATH", camera, ())

    def camera_report(self, report: CameraReport) -> None:
        table = self._devices.get(report.camera)
        if table is None:
            return
        for name, value in report_values(report).items():
            table.set(name, value, self._now_ms())

    # ---- events --------------------------------------------------------------------------------------

    def learn(self, rows: Sequence[Row]) -> None:
        """Take events in the order of `seq`, all after `known_seq`: births carry the newest."""
        for row in rows:
            event = ParsedEvent.of(row)
            self.known_seq = row.seq
            for metric in event.node_metrics():
                self._node.set_for_birth(metric)
            table = self._devices.get(event.camera)
            if table is None:
                continue
            for metric in event.defect_metrics():
                table.set_for_birth(metric)
            if self._first_new_seq is not None and row.seq >= self._first_new_seq:
                self._event_counts[event.camera] += 1
                table.set(EVENT_COUNT, self._event_counts[event.camera], event.time_ms)

    def count_from(self, seq: int) -> None:
        """`Event Count` starts with this event, the first of this run of the daemon."""
        self._first_new_seq = seq

    def room(self) -> int:
        """How many events may be sent now."""
        if self.phase != "born" or self._rebirth_requested:
            return 0
        return max(0, WINDOW - self._since_fence) // 2  # an event may be two messages

    def send(self, rows: Sequence[Row]) -> None:
        """Send the next events after `sent_seq`, in order; at most `room`, none after `known_seq`."""
        for row in rows:
            lost = row.seq - 1 - max(self.sent_seq, self._checked_seq)
            if lost > 0:
                self._count(lost=lost)
                self._node.set(EVENTS_LOST, self.counts.lost, self._now_ms())
            self.sent_seq = row.seq
            self._checked_seq = max(self._checked_seq, row.seq)
            event = ParsedEvent.of(row)
            is_history = row.seq <= self._known_at_birth
            self._count(events=1, history=int(is_history))
            self._send_event(event.node_metrics(), self._node, None, is_history=is_history)
            if self._alive.get(event.camera):
                is_history = row.seq <= self._known_at_device_birth[event.camera]
                self._send_event(
                    event.defect_metrics(), self._devices[event.camera], event.camera, is_history=is_history
                )

    def _send_event(
        self, metrics: Sequence[Metric], table: MetricTable, device: str | None, *, is_history: bool
    ) -> None:
        if not metrics:
            return
        by_alias = table.of_event(metrics, is_history=is_history)
        verb: Verb = "NDATA" if device is None else "DDATA"
        self._send(verb, device, by_alias)

    # ---- time ------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Send what is due: a requested birth, changed values, a fence."""
        if self.phase != "born":
            return
        self._rebirth_if_due()
        if self._rebirth_requested:
            return
        self._flush()
        now_ns = self._clock.monotonic_ns()
        waiting = self.sent_seq > self.settled_seq and now_ns - self._fenced_ns >= self._fence_every_ns
        if self._fence is None and (self._since_fence >= WINDOW // 2 or waiting):
            self._fence = _Fence(now_ns, self.sent_seq, self._since_fence)
            self._fenced_ns = now_ns
            self._actions.append(Fence())

    def unanswered_ns(self) -> int:
        """How long a fence has been waiting for its answer."""
        return 0 if self._fence is None else self._clock.monotonic_ns() - self._fence.sent_ns

    def _flush(self) -> None:
        """Report by exception: send the values that changed since they were last sent."""
        # Events that are still to be sent would overwrite the values of a newer defect.
        held = frozenset(LAST_DEFECT) if self.sent_seq < self.known_seq else frozenset[str]()
        if self._since_fence < WINDOW and (metrics := self._node.changes()):
            self._send("NDATA", None, metrics)
        for device, table in self._devices.items():
            if self._since_fence < WINDOW and self._alive[device] and (metrics := table.changes(held)):
                self._send("DDATA", device, metrics)

    def _settle(self, fence: _Fence) -> None:
        while self._fences and self._fences[0].sent_ns <= fence.sent_ns - self._settle_ns:
            self.settled_seq = max(self.settled_seq, self._fences.popleft().seq)
        # Of many fences in a short time, keep the first and the last: memory stays bounded.
        if len(self._fences) > 1 and self._fences[-1].sent_ns - self._fences[-2].sent_ns < self._settle_ns // 16:
            self._fences.pop()
        self._fences.append(fence)

    # ---- messages --------------------------------------------------------------------------------------

    def _birth(self) -> None:
        """NBIRTH, then the DBIRTH of every live device. No other message may come in between."""
        self.phase = "born"
        self._rebirth_requested = False
        self._born_ns = self._clock.monotonic_ns()
        self._known_at_birth = self.known_seq
        self._seq = 0
        self._count(births=1)
        now_ms = self._now_ms()
        fixed = (self._bd_seq_metric(now_ms), Metric(REBIRTH, DataType.BOOLEAN, value=False, timestamp_ms=now_ms))
        self._send("NBIRTH", None, (*self._node.birth(), *fixed))
        for device, alive in self._alive.items():
            if alive:
                self._device_birth(device)

    def _device_birth(self, device: str) -> None:
        self._known_at_device_birth[device] = self.known_seq
        self._send("DBIRTH", device, self._devices[device].birth())

    def _death(self) -> Publish:
        payload = Payload(self._now_ms(), (self._bd_seq_metric(self._now_ms()),))
        return Publish(self.identity.topic("NDEATH"), encode(payload))

    def _bd_seq_metric(self, now_ms: int) -> Metric:
        return Metric(BD_SEQ, DataType.INT64, self.bd_seq, timestamp_ms=now_ms)

    def _send(self, verb: Verb, device: str | None, metrics: Sequence[Metric]) -> None:
        topic = self.identity.topic(verb, device)
        payload = Payload(self._now_ms(), tuple(metrics), self._seq)
        with_types = verb in ("NBIRTH", "DBIRTH")
        data = encode(payload, datatypes=with_types)
        if self._packet_limit is not None and _packet_bytes(topic, data) > self._packet_limit:
            # Only the event as JSON is that long. The broker would end the connection: leave the JSON out.
            shorter = tuple(_without_long_text(m) for m in metrics)
            data = encode(replace(payload, metrics=shorter), datatypes=with_types)
        self._seq = (self._seq + 1) % SEQ_MODULUS
        self._since_fence += 1
        self._actions.append(Publish(topic, data))

    def _now_ms(self) -> int:
        return self._clock.wall_ns() // NS_PER_MS

    def _count(self, **more: int) -> None:
        self.counts = replace(self.counts, **{name: getattr(self.counts, name) + n for name, n in more.items()})


@dataclass(frozen=True, slots=True)
class _Fence:
    """A fence that was sent.  sent_ns: monotonic.  seq: newest event before it.  messages: since the last fence."""

    sent_ns: int
    seq: int
    messages: int


def _packet_bytes(topic: str, payload: bytes) -> int:
    """Upper bound of a PUBLISH with QoS 0: type, length, topic, empty properties."""
    return 1 + 4 + 2 + len(topic.encode()) + 1 + len(payload)


def _without_long_text(metric: Metric) -> Metric:
    if isinstance(metric.value, str) and len(metric.value) > 256:
        return replace(metric, value=None, quality=None if metric.is_historical else STALE)
    return metric
