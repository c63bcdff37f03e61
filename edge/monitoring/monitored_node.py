"""What monitoring reads of a running node: nothing is counted twice, and no thread of the node ever waits for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edge.camera.supervised_camera import CameraStatus
from edge.coverage.coil_judge import JudgedNow
from edge.coverage.strip_position import StripReading
from edge.delivery.mqtt import publisher
from edge.delivery.outputs import OutputStatus
from edge.evidence.archive import Archive
from edge.host.watchdog import Loop
from edge.monitoring.page_process import PageStatus
from edge.pipeline.camera_session import CameraSession
from edge.pipeline.event_latency import EventLatency
from edge.pipeline.shadow import Shadow


class Cameras(Protocol):
    """The supervisor, or a fake."""

    def snapshot(self) -> dict[str, CameraStatus]: ...


class Publisher(Protocol):
    """The MQTT publisher, or a fake."""

    def snapshot(self) -> publisher.Snapshot: ...


class Recorder(Protocol):
    """The recorder of events, or a fake."""

    @property
    def waiting(self) -> int: ...
    @property
    def stored(self) -> int: ...
    @property
    def dropped(self) -> int: ...


class Evidence(Protocol):
    """The evidence writer, or a fake."""

    archive: Archive
    lost: dict[str, int]


class LineSignals(Protocol):
    """What receives speed and coil of the production line, or a fake."""

    refused: dict[str, int]
    dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoredNode:
    """The parts of a node, as one value for the table of routes and the tuple of collectors.

    A function where the part is replaced while the node runs.  Each may be called by any thread.
    """

    sessions: Callable[[], Sequence[CameraSession]]
    cameras: Cameras
    publisher: Publisher
    recorder: Recorder
    latency: EventLatency
    info: Callable[[], dict[str, str]]
    """Version and model, as text."""
    loops: Callable[[], Mapping[str, Loop]]
    """The threads without which the node does not inspect, by name."""
    evidence: Evidence | None = None
    """None: no images are kept."""
    shadow: Callable[[], Shadow | None] = lambda: None
    strip: Callable[[], StripReading] = lambda: StripReading("off")
    signals: LineSignals | None = None
    outputs: Callable[[], Sequence[OutputStatus]] = tuple
    judged: Callable[[], JudgedNow] = JudgedNow
    """Grade so far and roll marks of the coil that runs."""
    page: Callable[[], PageStatus | None] = lambda: None
    """None: the daemon does not start the page."""
    http_refused: Mapping[str, int] = field(default_factory=dict)
    """Connections and requests that the HTTP server refused, by reason."""
