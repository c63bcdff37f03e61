"""The neighbours of a node: cameras, recorder, publisher and outputs that keep what they receive."""

from __future__ import annotations

import threading
from typing import Any

from edge import config
from edge.delivery.mqtt.topics import Topics
from edge.event import Event, Origin

TOPICS = Topics("defectd", "line3")
CAMERA = {"name": "top", "source": "strip:", "budget_ms": 50}


class Cameras:
    """A supervisor that keeps what it was asked for."""

    def __init__(self) -> None:
        self.wanted: list[config.Camera] | None = None
        self.notices: list[Any] = []
        self.news = threading.Condition()

    def rearrange(self, cameras: Any) -> None:
        self.wanted = list(cameras)

    def send(self, *notices: Any) -> None:
        with self.news:
            self.notices += notices
            self.news.notify_all()

    def wait(self, _timeout_s: float) -> bool:
        with self.news:
            return self.news.wait_for(lambda: self.notices, 0.002)

    def heads(self) -> tuple[tuple[str, int], ...]:
        return ()

    def take_notices(self) -> tuple[Any, ...]:
        with self.news:
            taken, self.notices = tuple(self.notices), []
            return taken


class Crew:
    """Recorder and publisher in one: keeps what it receives."""

    def __init__(self) -> None:
        self.origin: Any = None
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


class Outputs:
    """All outputs in one: keeps the newest values and the settings of the last rebuild."""

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
