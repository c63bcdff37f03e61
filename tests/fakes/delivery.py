"""Fakes for delivery: a broker that keeps its messages in lists, and events of every type."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, get_args

from edge.delivery.mqtt.notices import Acknowledged, Connected, Disconnected, Notice, Refused, Will
from edge.delivery.outbox.rows import Draft
from edge.errors import BrokerError
from edge.event import NODE_CAMERA, Defect, Event, EventType, Evidence, FrameRef, Latency, Origin
from edge.host.clock import SystemClock, uuid7

ORIGIN = Origin("line3", "boot-1", {"name": "student", "version": "1", "sha256": "ab" * 32}, "cd" * 32)


def event(event_type: EventType = "image.bad", camera: str = "top", **rest: Any) -> Event:
    clock = SystemClock()
    now = clock.wall_ns()
    return Event(uuid7(now), camera, event_type, now, clock.monotonic_ns(), True, **rest)


def every_event() -> list[Event]:
    """One event of each type, with every field that it may have."""
    defect = Defect(
        "t-1", "scratches", 0.97, (1, 2, 30, 40), 4, 9, 0.5, 3.1, (3, 9, 20, 7), (1.0, 2.0, 3.0, 4.0), 812.4, 33.5
    )
    made = []
    for event_type in get_args(EventType):
        rest: dict[str, Any] = {}
        if event_type.startswith("defect."):
            rest = {"defect": defect, "frame": FrameRef(7, "a.png"), "latency_ms": Latency(0.1, 0.2, 1.5, 0.1, 2.0)}
            rest["evidence"] = Evidence("defect/0000000001-top-0123456789abcdef.jpg", "0123456789abcdef" * 4)
        if event_type == "events.dropped":
            rest = {"detail": {"first_seq": 3, "last_seq": 9, "count": 7, "cause": "full"}}
        if event_type == "events.refused":
            codes = {"0x87": 6, "0x99": 1}
            words = {"codes": codes, "topics": ["t"], "reason": "no"}
            rest = {"detail": {"first_seq": 3, "last_seq": 9, "count": 7, **words}}
        if event_type == "operator.acted":
            who = {"who": "anna", "role": "engineer", "via": None, "verb": "set", "camera": "top", "reason": None}
            rest = {"detail": {**who, "before_sha256": "ab" * 32, "after_sha256": "cd" * 32}}
        node_wide = event_type.startswith(("events.", "node.", "model.", "operator."))
        made.append(event(event_type, NODE_CAMERA if node_wide else "top", **rest))
    return made


def draft(number: int, topic: str = "defectd/line3/top/event") -> Draft:
    event_id = uuid7(1_790_000_000_000_000_000 + number, number.to_bytes(10, "big"))
    return Draft(topic, {"event_id": event_id, "seq": 0, "replayed": False, "number": number}, event_id)


@dataclass
class Sent:
    topic: str
    payload: dict[str, Any]
    retain: bool
    mid: int


@dataclass
class FakeBroker:
    """Answers as `answer` decides; makes links as `edge.delivery.mqtt.client.opener` does."""

    receive_maximum: int = 65_535
    maximum_packet_size: int | None = None
    versions: tuple[str, ...] = ("5", "3.1.1")
    up: bool = True
    answer: Callable[[Sent], int | None] = lambda sent: 0
    """The PUBACK code for a message; None: no answer."""
    ends_on: Callable[[Sent], Disconnected | None] = lambda sent: None
    links: list[FakeLink] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)

    def __call__(self, *, deliver: Callable[[Notice], None], protocol: str, will: Will) -> Any:
        link = FakeLink(self, deliver, protocol, will)
        self.links.append(link)
        return link

    @property
    def events(self) -> list[dict[str, Any]]:
        return [s.payload for s in self.sent if s.topic.endswith("/event")]

    def published(self, topic: str) -> list[dict[str, Any]]:
        return [s.payload for s in self.sent if s.topic == topic]


class FakeLink:
    def __init__(self, broker: FakeBroker, deliver: Callable[[Notice], None], protocol: str, will: Will) -> None:
        self.broker = broker
        self.deliver = deliver
        self.protocol = protocol
        self.will = will
        self.alive = False
        self.goodbye = False
        self._mid = 0
        self._lock = threading.Lock()

    def start(self) -> None:
        broker = self.broker
        if not broker.up:
            self.deliver(Refused("nothing listens", "start the broker"))
        elif self.protocol not in broker.versions:
            self.deliver(Refused("the broker refuses", "another version", 0x84))
        else:
            self.alive = True
            self.deliver(Connected(self.protocol, broker.receive_maximum, broker.maximum_packet_size, False))

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        correlation: bytes | None = None,
        content_type: str | None = None,
    ) -> int:
        if not self.alive:
            raise BrokerError("the connection to the broker is gone")
        if "#" in topic:
            raise ValueError("wildcard in the topic")
        self._mid += 1
        sent = Sent(topic, json.loads(payload), retain, self._mid)
        ending = self.broker.ends_on(sent)
        if ending is not None:
            self.cut(ending)
            return self._mid
        self.broker.sent.append(sent)
        code = self.broker.answer(sent)
        if code is not None:
            self.deliver(Acknowledged(self._mid, code < 0x80, code, f"code {code:#x}"))
        return self._mid

    def subscribe(self, filters: Any) -> int:
        return 1

    def cut(self, how: Disconnected | None = None) -> None:
        with self._lock:
            if self.alive:
                self.alive = False
                self.deliver(how or Disconnected("cut"))

    def disconnect(self, timeout_s: float) -> bool:
        self.goodbye = True
        self.cut()
        return True

    def discard(self, timeout_s: float = 1.0) -> bool:
        self.cut()
        return True
