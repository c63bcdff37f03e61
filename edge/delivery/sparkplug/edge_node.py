"""A Sparkplug 3.0 edge node as a machine without threads, sockets or files: told what happened, says what to send.

One node, one device per camera. Inputs are methods; `take` hands over what they led to, in order. A sequence
number is taken when a message is put into that list, and the list is sent before the next input, so that no number
is ever taken in vain: a hole would make the host ask for a new birth.

QoS 0, which the specification demands, cannot carry "no event is lost". Therefore:

- Every event of the node goes out as NDATA in the order of its `seq` (metrics `Event/...`), whatever its camera is
  doing, and defects also as DDATA of their camera (`Last Defect/...`).
- Messages are followed by a fence: a subscription asked for again. A broker answers in order, so its answer proves
  that it has had everything before. Without answers nothing more is sent than a window of messages.
- An event is settled when a fence sent `settle_ns` later was answered, and the host had not been found offline by
  then. What is not settled when a session ends, or when the host asks for a new birth, is sent again.
- An event that was known when the last birth went out is history: `is_historical`, with its own time. The birth
  itself has the newest values.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal

from edge.delivery.outbox.rows import Row
from edge.delivery.sparkplug.payload import (
    BAD,
    GOOD,
    SEQ_MODULUS,
    STALE,
    DataType,
    Metric,
    Payload,
    Value,
    decode,
    encode,
)
from edge.errors import PayloadError
from edge.event import NODE_CAMERA
from edge.host.clock import NS_PER_MS, NS_PER_S, Clock

NAMESPACE: Final = "spBv1.0"
BD_SEQ: Final = "bdSeq"
REBIRTH: Final = "Node Control/Rebirth"
WINDOW: Final = 200
"""Messages sent and not yet covered by an answered fence."""
REBIRTH_S: Final = 2.0
"""Least time between two births in one session; a flood of requests leads to one in each."""
STATE_BYTES: Final = 4096
"""Longest STATE message that is read."""
DEAD_STATES: Final = {"no_signal"}
"""States of a camera that deliver no picture: its device is dead."""

Verb = Literal["NBIRTH", "NDEATH", "NDATA", "NCMD", "DBIRTH", "DDEATH", "DDATA", "DCMD"]

NODE_METRICS: Final = {
    "Properties/Version": DataType.STRING,
    "Properties/Config SHA-256": DataType.STRING,
    "Model/Name": DataType.STRING,
    "Model/Version": DataType.STRING,
    "Model/SHA-256": DataType.STRING,
    "Outbox/Depth": DataType.INT64,
    "Strip/Speed m per s": DataType.DOUBLE,
    "Strip/Position m": DataType.DOUBLE,
    "Strip/Coil": DataType.STRING,
    "Event/Lost": DataType.INT64,
    "Event/Seq": DataType.INT64,
    "Event/ID": DataType.STRING,
    "Event/Type": DataType.STRING,
    "Event/Camera": DataType.STRING,
    "Event/JSON": DataType.STRING,
}
_LAST_DEFECT: Final = {
    "Last Defect/Seq": DataType.INT64,
    "Last Defect/Open": DataType.BOOLEAN,
    "Last Defect/Track ID": DataType.STRING,
    "Last Defect/Class": DataType.STRING,
    "Last Defect/Confidence": DataType.DOUBLE,
    "Last Defect/X px": DataType.INT32,
    "Last Defect/Y px": DataType.INT32,
    "Last Defect/Width px": DataType.INT32,
    "Last Defect/Height px": DataType.INT32,
    "Last Defect/Position m": DataType.DOUBLE,
}
DEVICE_METRICS: Final = {
    "State": DataType.STRING,
    "State Reason": DataType.STRING,
    "FPS": DataType.DOUBLE,
    "Latency/P50 ms": DataType.DOUBLE,
    "Latency/P99 ms": DataType.DOUBLE,
    "Frames/OK": DataType.INT64,
    "Frames/Defect": DataType.INT64,
    "Frames/Unsure": DataType.INT64,
    "Frames/Bad Image": DataType.INT64,
    "Frames/Late": DataType.INT64,
    "Frames/Dropped": DataType.INT64,
    "Tiles/Inspected": DataType.INT64,
    "Tiles/Skipped": DataType.INT64,
    "No Signal s": DataType.DOUBLE,
    "Event Count": DataType.INT64,
    **_LAST_DEFECT,
}
_FRAMES: Final = {
    "ok": "Frames/OK",
    "defect": "Frames/Defect",
    "unsure": "Frames/Unsure",
    "bad_image": "Frames/Bad Image",
    "late": "Frames/Late",
    "dropped": "Frames/Dropped",
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this edge node is, and whom it waits for.

    host: the primary host application; None: births as soon as it is connected.  legacy_state: that host says
    ONLINE and OFFLINE in text on STATE/HOST, as before Sparkplug 3.0.
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
        """What to subscribe to."""
        commands = (self.topic("NCMD"), self.topic("DCMD", "+"))
        return commands if self.state_topic is None else (*commands, self.state_topic)


@dataclass(frozen=True, slots=True)
class Publish:
    """Send this, QoS 0, not retained."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Fence:
    """Ask the broker for an answer that comes after everything sent before; tell the machine by `answered`."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The NDEATH is out: disconnect so that the broker publishes the will as well, where MQTT 5 can say so."""

    reason: str


Action = Publish | Fence | Leave
Phase = Literal["away", "subscribing", "waiting", "born"]


@dataclass(frozen=True, slots=True)
class Counts:
    """What happened since the machine was made."""

    births: int = 0
    rebirths: int = 0
    events: int = 0
    """NDATA of events, repetitions included."""
    history: int = 0
    """Of these, marked as history."""
    lost: int = 0
    """Events that were gone from the outbox before they could be sent here."""
    commands_refused: int = 0
    states_ignored: int = 0


class EdgeNode:
    """The machine. One thread owns it.

    bd_seq: of the last CONNECT ever made, None before the first.  settled_seq: the newest event that need not be sent
    again.  settle_ns: see above; twice the keepalive.
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
        self._looked_seq = settled_seq
        """Up to here it is known which events are lost."""
        self._first_new_seq: int | None = None
        self._actions: list[Action] = []
        now_ms = self._now_ms()
        self._node = _Board(NODE_METRICS, 1, now_ms)
        first = 1 + len(NODE_METRICS)
        self._devices = {
            device: _Board(DEVICE_METRICS, first + number * len(DEVICE_METRICS), now_ms)
            for number, device in enumerate(identity.devices)
        }
        self._alive = dict.fromkeys(identity.devices, False)
        self._event_counts = dict.fromkeys(identity.devices, 0)
        self._node.set("Event/Lost", 0, now_ms)
        for board in self._devices.values():
            board.set("Event Count", 0, now_ms)
        self._start_over()

    def _start_over(self) -> None:
        """What is true of one connection only."""
        self._seq = 0
        self._born_known = 0
        self._born_known_by = dict.fromkeys(self._devices, 0)
        self._born_ns: int | None = None
        self._rebirth_wanted = False
        self._host_timestamp: int | None = None
        self._host_online = False
        self._packet_limit: int | None = None
        self._since_fence = 0
        self._fence: _Fence | None = None
        self._fenced_ns = 0
        self._fences: deque[_Fence] = deque()
        self.sent_seq = self.settled_seq

    def take(self) -> tuple[Action, ...]:
        """What the inputs since the last call led to. Send it before the next input."""
        actions = tuple(self._actions)
        self._actions.clear()
        return actions

    # ---- the connection --------------------------------------------------------------------------

    def connect(self) -> Publish:
        """A CONNECT is about to be sent: its will. Make `bd_seq` durable before."""
        self._start_over()
        self.bd_seq = 0 if self.bd_seq is None else (self.bd_seq + 1) % SEQ_MODULUS
        return self._death()

    def connected(self, packet_limit: int | None = None) -> None:
        """The broker took us in.  packet_limit: bytes of a whole packet."""
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
        """The connection is over, whoever ended it."""
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
        """A message of a subscription.  Raises PayloadError for one that makes no sense; it is counted."""
        try:
            if topic == self.identity.state_topic:
                self._host_says(*_legacy_state(payload) if self.identity.legacy_state else _state(payload))
            elif topic == self.identity.topic("NCMD"):
                self._command(decode(payload))
            else:  # no metric of a device can be written
                self._count(commands_refused=1)
        except PayloadError:
            if topic == self.identity.state_topic:
                self._count(states_ignored=1)
            else:
                self._count(commands_refused=1)
            raise

    def _host_says(self, online: bool, timestamp: int | None) -> None:  # noqa: FBT001 (two fields of a message)
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
                self._rebirth_wanted = self.phase == "born"
            else:
                self._count(commands_refused=1)
        self._rebirth_if_due()

    def hurry(self) -> None:
        """The end is near: a birth that waits for its turn, and holds up all data, comes now."""
        self._rebirth_if_due(at_once=True)

    def _rebirth_if_due(self, *, at_once: bool = False) -> None:
        if not self._rebirth_wanted or self._born_ns is None:
            return
        if at_once or self._clock.monotonic_ns() - self._born_ns >= REBIRTH_S * NS_PER_S:
            self._count(rebirths=1)
            self.sent_seq = self.settled_seq  # the host asks because it missed something
            self._fences.clear()
            if self._fence is not None:
                self._fence = replace(self._fence, seq=self.settled_seq)
            self._birth()

    # ---- what the daemon knows -----------------------------------------------------------------------

    def node_values(self, values: Mapping[str, Value]) -> None:
        """Newest values of metrics of the node."""
        for name, value in values.items():
            self._node.set(name, value, self._now_ms())

    def camera_state(self, camera: str, state: str, reason: str | None) -> None:
        """What a camera is doing: its device lives and dies with it."""
        board = self._devices.get(camera)
        if board is None:
            return
        board.set("State", state, self._now_ms())
        board.set("State Reason", reason or "", self._now_ms())
        board.doubt(_LAST_DEFECT if state != "running" else {})
        alive = state not in DEAD_STATES
        if alive == self._alive[camera]:
            return
        self._alive[camera] = alive
        if self.phase == "born" and not self._rebirth_wanted:
            if alive:
                self._device_birth(camera)
            else:
                self._send("DDEATH", camera, ())

    def camera_report(
        self, camera: str, *, fps: float, p50_ms: float, p99_ms: float, coverage: Mapping[str, Any]
    ) -> None:
        """One camera's last window.  coverage: the coverage message."""
        board = self._devices.get(camera)
        if board is None:
            return
        total = coverage["since_start"]
        values: dict[str, Value] = {
            "FPS": round(fps, 2),
            "Latency/P50 ms": p50_ms,
            "Latency/P99 ms": p99_ms,
            "Tiles/Inspected": total["tiles"]["inspected"],
            "Tiles/Skipped": total["tiles"]["skipped"],
            "No Signal s": total["no_signal_s"],
            **{_FRAMES[state]: count for state, count in total["frames"].items() if state in _FRAMES},
        }
        for name, value in values.items():
            board.set(name, value, self._now_ms())

    # ---- events --------------------------------------------------------------------------------------

    def learn(self, rows: Sequence[Row]) -> None:
        """Events in the order of `seq`, all after `known_seq`: births will carry the newest."""
        for row in rows:
            event = _Event.of(row)
            self.known_seq = row.seq
            for metric in event.node_metrics():
                self._node.know(metric)
            board = self._devices.get(event.camera)
            if board is None:
                continue
            for metric in event.defect_metrics():
                board.know(metric)
            if self._first_new_seq is not None and row.seq >= self._first_new_seq:
                self._event_counts[event.camera] += 1
                board.set("Event Count", self._event_counts[event.camera], event.time_ms)

    def count_from(self, seq: int) -> None:
        """`Event Count` begins with this event, the first of this start of the daemon."""
        self._first_new_seq = seq

    def room(self) -> int:
        """How many events may be sent now."""
        if self.phase != "born" or self._rebirth_wanted:
            return 0
        return max(0, WINDOW - self._since_fence) // 2  # an event may be two messages

    def send(self, rows: Sequence[Row]) -> None:
        """The next events after `sent_seq`, in order; at most `room`, none after `known_seq`."""
        for row in rows:
            gone = row.seq - 1 - max(self.sent_seq, self._looked_seq)
            if gone > 0:
                self._count(lost=gone)
                self._node.set("Event/Lost", self.counts.lost, self._now_ms())
            self.sent_seq = row.seq
            self._looked_seq = max(self._looked_seq, row.seq)
            event = _Event.of(row)
            is_history = row.seq <= self._born_known
            self._count(events=1, history=int(is_history))
            self._send_event(event.node_metrics(), self._node, None, is_history=is_history)
            if self._alive.get(event.camera):
                is_history = row.seq <= self._born_known_by[event.camera]
                self._send_event(
                    event.defect_metrics(), self._devices[event.camera], event.camera, is_history=is_history
                )

    def _send_event(self, metrics: Sequence[Metric], board: _Board, device: str | None, *, is_history: bool) -> None:
        if not metrics:
            return
        by_alias = board.by_alias(metrics, is_history=is_history)
        verb: Verb = "NDATA" if device is None else "DDATA"
        self._send(verb, device, by_alias)

    # ---- time ------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Let what is due happen: a birth asked for, changed values, a fence."""
        if self.phase != "born":
            return
        self._rebirth_if_due()
        if self._rebirth_wanted:
            return
        self._flush()
        now_ns = self._clock.monotonic_ns()
        waiting = self.sent_seq > self.settled_seq and now_ns - self._fenced_ns >= self._fence_every_ns
        if self._fence is None and (self._since_fence >= WINDOW // 2 or waiting):
            self._fence = _Fence(now_ns, self.sent_seq, self._since_fence)
            self._fenced_ns = now_ns
            self._actions.append(Fence())

    def unanswered_ns(self) -> int:
        """For how long a fence has been waiting for its answer."""
        return 0 if self._fence is None else self._clock.monotonic_ns() - self._fence.sent_ns

    def _flush(self) -> None:
        """Data by exception: what changed since it was told last."""
        # A defect newer than the events still to be sent would be overwritten by them.
        held = frozenset(_LAST_DEFECT) if self.sent_seq < self.known_seq else frozenset[str]()
        if self._since_fence < WINDOW and (metrics := self._node.news()):
            self._send("NDATA", None, metrics)
        for device, board in self._devices.items():
            if self._since_fence < WINDOW and self._alive[device] and (metrics := board.news(held)):
                self._send("DDATA", device, metrics)

    def _settle(self, fence: _Fence) -> None:
        while self._fences and self._fences[0].sent_ns <= fence.sent_ns - self._settle_ns:
            self.settled_seq = max(self.settled_seq, self._fences.popleft().seq)
        # Many fences in a short time are kept as two, the first and the last: memory stays bounded.
        if len(self._fences) > 1 and self._fences[-1].sent_ns - self._fences[-2].sent_ns < self._settle_ns // 16:
            self._fences.pop()
        self._fences.append(fence)

    # ---- messages --------------------------------------------------------------------------------------

    def _birth(self) -> None:
        """NBIRTH, then the DBIRTH of every device that lives. Nothing may come in between."""
        self.phase = "born"
        self._rebirth_wanted = False
        self._born_ns = self._clock.monotonic_ns()
        self._born_known = self.known_seq
        self._seq = 0
        self._count(births=1)
        now_ms = self._now_ms()
        fixed = (self._bd_seq_metric(now_ms), Metric(REBIRTH, DataType.BOOLEAN, value=False, timestamp_ms=now_ms))
        self._send("NBIRTH", None, (*self._node.birth(), *fixed))
        for device, alive in self._alive.items():
            if alive:
                self._device_birth(device)

    def _device_birth(self, device: str) -> None:
        self._born_known_by[device] = self.known_seq
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
            # Only the event as JSON is that long: the broker would end the connection, so it goes without.
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
    """What a fence stands behind. sent_ns: monotonic.  messages: sent since the fence before."""

    sent_ns: int
    seq: int
    messages: int


@dataclass(frozen=True, slots=True)
class _Known:
    """The newest value of a metric, and the time it is from."""

    value: Value
    timestamp_ms: int
    quality: int


class _Board:
    """The metrics of the node or of one device: their newest values, and which of them the host has not heard.

    A value that nobody has told yet is null and stale.
    """

    def __init__(self, kinds: Mapping[str, DataType], first_alias: int, now_ms: int) -> None:
        self._kinds = kinds
        self._aliases = {name: first_alias + number for number, name in enumerate(kinds)}
        self._known = {name: _Known(None, now_ms, STALE) for name in kinds}
        self._told: dict[str, tuple[Value, int]] = {}
        """Value and quality as the host has them."""
        self._changed: dict[str, None] = {}
        self._doubtful: frozenset[str] = frozenset()

    def set(self, name: str, value: Value, timestamp_ms: int) -> None:
        """Take a live value; it is news if it differs from what the host has."""
        self._learn(name, value, timestamp_ms)
        known = self._known[name]
        if self._told.get(name) != (known.value, known.quality):
            self._changed[name] = None
        else:
            self._changed.pop(name, None)

    def know(self, metric: Metric) -> None:
        """Take a value that goes out by itself, as an event, and is needed here for births."""
        assert metric.name is not None
        assert metric.timestamp_ms is not None
        self._learn(metric.name, metric.value, metric.timestamp_ms)

    def _learn(self, name: str, value: Value, timestamp_ms: int) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            value = None
        if isinstance(value, int) and not isinstance(value, bool) and self._kinds[name] == DataType.DOUBLE:
            value = float(value)
        before = self._known[name]
        if before.value == value and before.quality == self._quality(name, value):
            return  # the time of a value is the time since when it holds
        self._known[name] = _Known(value, timestamp_ms, self._quality(name, value))

    def _quality(self, name: str, value: Value) -> int:
        if value is None:
            return STALE
        return BAD if name in self._doubtful else GOOD

    def doubt(self, names: Mapping[str, object]) -> None:
        """These, and no others, cannot be relied on now."""
        fresh = frozenset(names)
        changed, self._doubtful = self._doubtful ^ fresh, fresh
        for name in changed:
            known = self._known[name]
            quality = self._quality(name, known.value)
            if quality != known.quality:
                self._known[name] = replace(known, quality=quality)
                self._changed[name] = None

    def birth(self) -> tuple[Metric, ...]:
        """All metrics, in the order of their times, with names, types and aliases."""
        metrics = [replace(self._metric(name), name=name) for name in self._kinds]
        self._changed.clear()
        return tuple(sorted(metrics, key=_time_of))

    def news(self, held: frozenset[str] = frozenset()) -> tuple[Metric, ...]:
        """What changed, in the order of time, by alias.  held: names that stay news."""
        names = [name for name in self._changed if name not in held]
        for name in names:
            del self._changed[name]
        return tuple(sorted((self._metric(name) for name in names), key=_time_of))

    def _metric(self, name: str) -> Metric:
        known = self._known[name]
        before = self._told.get(name, (None, GOOD))
        self._told[name] = known.value, known.quality
        # Good needs no word, but after another quality it does.
        quality = known.quality if known.quality != GOOD or before[1] != GOOD else None
        return Metric(
            None, self._kinds[name], known.value, known.timestamp_ms, alias=self._aliases[name], quality=quality
        )

    def by_alias(self, metrics: Sequence[Metric], *, is_history: bool) -> tuple[Metric, ...]:
        """An event's own metrics as they go out. History leaves alone what the host holds for the present."""
        sent = []
        for metric in metrics:
            assert metric.name is not None
            quality = metric.quality
            if not is_history:
                actual = self._quality(metric.name, metric.value)
                before = self._told.get(metric.name, (None, GOOD))[1]
                self._told[metric.name] = metric.value, actual
                quality = actual if actual != GOOD or before != GOOD else None
                self._changed.pop(metric.name, None)
            sent.append(
                replace(metric, name=None, alias=self._aliases[metric.name], quality=quality, is_historical=is_history)
            )
        return tuple(sent)


def _packet_bytes(topic: str, payload: bytes) -> int:
    """Most bytes of a PUBLISH of QoS 0: type, length, topic, empty properties."""
    return 1 + 4 + 2 + len(topic.encode()) + 1 + len(payload)


def _time_of(metric: Metric) -> int:
    return metric.timestamp_ms or 0


def _without_long_text(metric: Metric) -> Metric:
    if isinstance(metric.value, str) and len(metric.value) > 256:
        return replace(metric, value=None, quality=None if metric.is_historical else STALE)
    return metric


@dataclass(frozen=True, slots=True)
class _Event:
    """A stored event, taken apart."""

    row: Row
    camera: str
    time_ms: int
    said: dict[str, Any]

    @classmethod
    def of(cls, row: Row) -> _Event:
        """Whatever stands in the row: what cannot be read is null."""
        try:
            said = json.loads(row.payload)
            time_ms = round(datetime.fromisoformat(said["time"]).timestamp() * 1000)
        except (ValueError, TypeError, KeyError, RecursionError):
            said, time_ms = {}, row.stored_ns // NS_PER_MS
        return cls(row, str(said.get("camera", NODE_CAMERA)), time_ms, said)

    def node_metrics(self) -> tuple[Metric, ...]:
        said = self.said
        values: dict[str, Value] = {
            "Event/Seq": self.row.seq,
            "Event/ID": self.row.event_id,
            "Event/Type": _or_none(said.get("type"), str),
            "Event/Camera": self.camera,
            "Event/JSON": self.row.payload.decode("utf-8", "replace"),
        }
        return self._metrics(NODE_METRICS, values)

    def defect_metrics(self) -> tuple[Metric, ...]:
        """Empty for an event that is about no defect."""
        defect = self.said.get("defect")
        if not isinstance(defect, dict):
            return ()
        box = defect.get("box_px")
        sides = [_or_none(side, int) for side in box] if isinstance(box, list) and len(box) == 4 else [None] * 4
        values: dict[str, Value] = {
            "Last Defect/Seq": self.row.seq,
            "Last Defect/Open": self.said.get("type") == "defect.opened",
            "Last Defect/Track ID": _or_none(defect.get("track_id"), str),
            "Last Defect/Class": _or_none(defect.get("class"), str),
            "Last Defect/Confidence": _number(defect.get("confidence")),
            "Last Defect/X px": sides[0],
            "Last Defect/Y px": sides[1],
            "Last Defect/Width px": sides[2],
            "Last Defect/Height px": sides[3],
            "Last Defect/Position m": _number(defect.get("position_m")),
        }
        return self._metrics(_LAST_DEFECT, values)

    def _metrics(self, kinds: Mapping[str, DataType], values: Mapping[str, Value]) -> tuple[Metric, ...]:
        return tuple(Metric(name, kinds[name], value, self.time_ms) for name, value in values.items())


def _or_none(value: Any, kind: type[str | int]) -> Any:
    return value if isinstance(value, kind) and not isinstance(value, bool) else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _state(payload: bytes) -> tuple[bool, int]:
    """Online and timestamp of a STATE message of 3.0.  Raises PayloadError."""
    try:
        if len(payload) > STATE_BYTES:
            raise PayloadError(f"a STATE message of {len(payload)} bytes")
        said = json.loads(payload.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"a STATE message that is no JSON: {error}") from error
    online = said.get("online") if isinstance(said, dict) else None
    timestamp = said.get("timestamp") if isinstance(said, dict) else None
    if not isinstance(online, bool) or isinstance(timestamp, bool) or not isinstance(timestamp, int):
        raise PayloadError("a STATE message without a boolean `online` and a whole `timestamp`")
    return online, timestamp


def _legacy_state(payload: bytes) -> tuple[bool, None]:
    """ONLINE or OFFLINE in text.  Raises PayloadError."""
    if payload not in (b"ONLINE", b"OFFLINE"):
        raise PayloadError("a STATE message that says neither ONLINE nor OFFLINE")
    return payload == b"ONLINE", None
