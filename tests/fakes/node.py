"""A node around a running inspection loop.  Its neighbours are fakes, unless a test gives the real ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import yaml

from edge import config
from edge.control.mqtt_commands import Commands
from edge.control.reload import ORDER_S, Node, Reach
from edge.control.startup import Prepared, prepare, session_of
from edge.delivery.mqtt.topics import Topics
from edge.event import Origin
from edge.host.clock import Clock, SystemClock, boot_id
from edge.model.classifier import Classifier
from edge.pipeline.camera_session import CameraSession
from edge.pipeline.event_latency import EventLatency
from edge.pipeline.loop import InspectionLoop
from edge.pipeline.orders import OrderQueue
from edge.pipeline.reporting import Subscribers
from fakes.neighbours import FakeDelivery, FakeOutputs, FakeSupervisor

TOPICS = Topics("defectd", "line3")
CAMERA = {"name": "top", "source": "strip:", "budget_ms": 50}


class Scene:
    """A node and its configuration file.  `start` starts the inspection loop, nothing else."""

    def __init__(
        self,
        folder: Path,
        cameras: Sequence[dict[str, Any]],
        *,
        supervise: Callable[[Sequence[config.Camera], Clock], Any] = lambda _cameras, _clock: FakeSupervisor(),
        instead: Callable[[Classifier], Any] | None = None,
        report_s: float = 60.0,
        order_s: float = ORDER_S,
        **settings: Any,
    ) -> None:
        """folder: for the file and the state.  settings: further sections of the file.

        supervise: makes the supervisor.  instead: makes the network that inspects from the one of the bundle.
        """
        self.path = folder / "config.yaml"
        self.first = {"node": "line3", "cameras": list(cameras), **settings}
        self.write(self.first)
        file = config.load(self.path)
        file.state_dir.mkdir(exist_ok=True)
        self.clock = SystemClock()
        self.prepared = _with_network(prepare(file, self.clock), instead, self.clock)
        effective = self.prepared.effective
        names = [camera.name for camera in effective.settings.active_cameras]
        self.supervisor = supervise(effective.settings.active_cameras, self.clock)
        self.outputs = FakeOutputs()
        self.orders = OrderQueue()
        origin = Origin("line3", boot_id(), effective.model.identity, effective.settings.sha256)
        self.delivery = FakeDelivery(origin)
        delivery: Any = self.delivery
        outputs: Any = self.outputs
        commands = Commands(TOPICS, file.commands, names, self.clock)
        latency = EventLatency(names, self.clock)
        reach = Reach(self.orders, self.supervisor, delivery, delivery, commands, latency, outputs)
        self.node = Node(self.prepared, origin, TOPICS, reach, self.clock, self.path, order_s=order_s)
        self.loop = InspectionLoop(
            self.prepared.sessions,
            self.supervisor,
            Subscribers(
                delivery,
                state=self.node.note_state,
                coverage=lambda camera, message: self.delivery.retain(TOPICS.coverage(camera), message),
                removed=self.node.forget,
            ),
            self.clock,
            report_s=report_s,
            orders=self.orders,
            shadow=self.prepared.shadow,
        )

    def write(self, content: Any) -> None:
        """The configuration file."""
        self.path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))

    def start(self) -> None:
        self.loop.start()

    def stop(self) -> None:
        assert self.loop.stop(10)
        assert self.loop.failure is None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def sessions(self) -> dict[str, CameraSession]:
        return {session.camera.name: session for session in self.loop.sessions}

    @property
    def cameras(self) -> dict[str, config.Camera]:
        """The settings that the inspection loop uses."""
        return {session.camera.name: session.camera for session in self.loop.sessions}


def _with_network(prepared: Prepared, instead: Callable[[Classifier], Any] | None, clock: Clock) -> Prepared:
    if instead is None:
        return prepared
    network = instead(prepared.classifier)
    sessions = tuple(session_of(session.camera, network, clock) for session in prepared.sessions)
    return replace(prepared, sessions=sessions)
