"""The neighbours of a node: a supervisor, a recorder with its publisher, and outputs that keep what they receive."""

from __future__ import annotations

import threading
from typing import Any

from edge import config
from edge.event import Event, Origin


class FakeSupervisor:
    """Keeps the cameras that it shall run, and delivers the notices of the test."""

    def __init__(self) -> None:
        self.wanted: list[config.Camera] | None = None
        self.notices: list[Any] = []
        self.changed = threading.Condition()

    def rearrange(self, cameras: Any) -> None:
        self.wanted = list(cameras)

    def send(self, *notices: Any) -> None:
        with self.changed:
            self.notices += notices
            self.changed.notify_all()

    def wait(self, _timeout_s: float) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.notices, 0.002)

    def heads(self) -> tuple[tuple[str, int], ...]:
        return ()

    def take_notices(self) -> tuple[Any, ...]:
        with self.changed:
            taken, self.notices = tuple(self.notices), []
            return taken


class FakeDelivery:
    """Recorder and publisher in one: keeps events with their origin, and retained messages."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.events: list[tuple[Event, Origin]] = []
        self.retained: dict[str, Any] = {}
        self.status: dict[str, Any] = {}

    def set_origin(self, origin: Origin) -> None:
        self.origin = origin

    def put(self, event: Event, _picture: Any = None) -> None:
        self.events.append((event, self.origin))

    def retain(self, topic: str, message: dict[str, Any]) -> bool:
        self.retained[topic] = message
        return True

    def forget(self, topic: str) -> None:
        self.retained.pop(topic, None)

    def announce(self, status: dict[str, Any]) -> None:
        self.status = status

    def kinds(self) -> list[str]:
        return [event.type for event, _ in self.events]


class FakeOutputs:
    """All outputs in one: keeps the newest values and the settings of each rebuild."""

    def __init__(self) -> None:
        self.properties: Any = None
        self.states: dict[str, Any] = {}
        self.rebuilt: list[config.Config] = []

    def set_properties(self, properties: Any) -> None:
        self.properties = properties

    def state(self, camera: str, message: Any) -> None:
        self.states[camera] = message

    def rebuild(self, settings: config.Config) -> None:
        self.rebuilt.append(settings)

    def as_json(self) -> dict[str, Any]:
        return {"toy": {"state": "running"}}
