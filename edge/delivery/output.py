"""The contract of an output: a further way to publish what the node finds, beside the JSON events over MQTT.

An output is optional. When it fails, it is restarted and reported; inspection and the delivery of events go on. The
values that it receives are neutral: the words of its protocol are known in its own package only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from edge.config import Config
from edge.coverage.strip_position import StripReading
from edge.coverage.strip_trace import StripTrace
from edge.delivery.frame_tap import FrameTap
from edge.delivery.outbox.rows import Row
from edge.delivery.page_life import PageLife
from edge.host.clock import Clock


@dataclass(frozen=True, slots=True)
class NodeProperties:
    """What the node runs: it changes with a reload, a threshold or a model."""

    version: str
    config_sha256: str
    model_name: str
    model_version: str
    model_sha256: str


@dataclass(frozen=True, slots=True)
class CameraReport:
    """One camera's last report window.  coverage: the coverage message, as published."""

    camera: str
    fps: float
    p50_ms: float
    p99_ms: float
    coverage: Mapping[str, Any]
    width_mm: float | None = None
    """The last width of the strip that it measured."""


@dataclass(frozen=True, slots=True)
class CameraFigures:
    """What one camera has counted, now.  The counts are since the start of the node.

    roi_px: a rectangle, corners, or None.  strip_m: passed_m, inspected_m, partial_m and missed_m since the coil that
    runs has started, or since the start; None where there are no positions.
    """

    frames: Mapping[str, int]
    tiles: Mapping[str, int]
    strip_m: Mapping[str, float] | None
    size_px: tuple[int, int] | None
    roi_px: Any
    mm_per_px: float | None
    budget_ms: float | None
    surface: str | None = None
    operator_side: str | None = None
    is_generated: bool = False
    """Whether it is the generated strip."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """How the whole node is doing: given about twice a second, while an output that reads it runs.

    The mappings are JSON values, with the names of the page's state object (`docs/page.md`).
    """

    since: str
    strip: StripReading
    cameras: Mapping[str, CameraFigures]
    delivery: Mapping[str, Any]
    outputs: Mapping[str, Mapping[str, Any]]
    model: Mapping[str, Any]
    machine: Mapping[str, Any]
    evidence: Mapping[str, Any] | None = None
    grade: Mapping[str, Any] | None = None
    """So far, of the coil that runs: `edge.coverage.grading`."""
    roll_marks: Sequence[Mapping[str, Any]] = ()
    """Of that coil: `edge.coverage.coil_grading`."""


class Events(Protocol):
    """What an output reads of the outbox, with a cursor of its own.  Its `name` is that of the reader."""

    @property
    def last_seq(self) -> int: ...
    def after(self, seq: int, limit: int) -> Sequence[Row]: ...
    def hold(self, reader: str, after_seq: int) -> None: ...
    def release(self, reader: str) -> None: ...
    def depth(self) -> int: ...


@dataclass(frozen=True, slots=True)
class OutputContext:
    """What an output is built from.  first_seq: of the first event of this run of the daemon.

    tap: frames with their verdicts.  page_life: for the signs of the page process.
    """

    settings: Config
    events: Events
    clock: Clock
    first_seq: int
    tap: FrameTap = field(default_factory=FrameTap)
    page_life: PageLife = field(default_factory=PageLife)
    trace: StripTrace = field(default_factory=StripTrace)
    """What the inspection loop notes along the strip."""


class Output(Protocol):
    """One running output.  One thread calls all methods; only `stop` may wait.  Any method may raise."""

    def start(self) -> None:
        """Start the output's own thread, which is called `name`."""
        ...

    def wake(self) -> None:
        """The outbox holds new events."""
        ...

    def set_properties(self, properties: NodeProperties) -> None: ...
    def set_strip(self, reading: StripReading) -> None: ...

    def set_node(self, status: NodeStatus) -> None:
        """Some hundred values; an output that has no use for them ignores them."""
        ...

    def state(self, camera: str, message: Mapping[str, Any]) -> None:
        """message: the camera's state message, as published."""
        ...

    def report(self, report: CameraReport) -> None: ...

    def ask_stop(self, timeout_s: float) -> None:
        """Start to stop: send what is left within that time, then disconnect.  Does not wait."""
        ...

    def stop(self, timeout_s: float) -> bool:
        """Stop and wait for the end.  False when events are left, or when the thread hangs."""
        ...

    @property
    def name(self) -> str: ...
    @property
    def alive(self) -> bool: ...
    @property
    def beat_ns(self) -> int:
        """When the output's thread last came round, monotonic.  It must do so at least every few seconds."""
        ...
