"""Who stands around a node: cameras, recorder, publisher and view that remember what they are told."""

from __future__ import annotations

import threading
from typing import Any

from edge import config
from edge.delivery.mqtt.topics import Topics
from edge.event import Event, Origin

TOPICS = Topics("defectd", "line3")
CAMERA = {"name": "top", "source": "strip:", "budget_ms": 50}


class Cameras:
    """What a supervisor was asked for."""

    def __init__(self) -> None:
        self.wanted: list[config.Camera] | None = None
        self.notices: list[Any] = []
        self.news = threading.Condition()

    def rearrange(self, cameras: Any) -> None:
        self.wanted = list(cameras)

    def tell(self, *notices: Any) -> None:
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
    """Recorder and publisher in one: keeps what it is told."""

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


class Output:
    """A second view that remembers its begin and its end."""

    def __init__(self) -> None:
        self.described: dict[str, str] = {}
        self.states: dict[str, Any] = {}
        self.running = False

    def start(self) -> None:
        self.running = True

    def set_properties(self, values: Any) -> None:
        self.described.update(values)

    def state(self, camera: str, message: Any) -> None:
        self.states[camera] = message

    def ask_stop(self, _timeout_s: float) -> None:
        pass

    def stop(self, _timeout_s: float) -> bool:
        self.running = False
        return True
