"""What the node tells the world: event values and their JSON form (`edge/schema/event-1.json`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from edge.host.clock import Clock, clock_synced, stamp, uuid7

SCHEMA: Final = "defectd.event/1"
NODE_CAMERA: Final = "node"
"""Stands in the place of a camera for events about the node itself."""

EventType = Literal[
    "defect.opened",
    "defect.closed",
    "coverage.gap",
    "camera.lost",
    "camera.restored",
    "camera.ended",
    "camera.paused",
    "camera.resumed",
    "coil.started",
    "coil.ended",
    "speed.stale",
    "speed.restored",
    "image.bad",
    "image.restored",
    "model.changed",
    "model.rolled_back",
    "model.refused",
    "thresholds.changed",
    "calibration.refused",
    "camera.drifted",
    "camera.drift_cleared",
    "config.changed",
    "config.refused",
    "events.dropped",
    "events.refused",
    "node.started",
    "node.stopped",
]
Severity = Literal["info", "warning", "alarm"]
"""What goes first when the outbox is full: info, then warning, alarm last."""
EVENT_TYPES: Final[dict[EventType, Severity]] = {
    "defect.opened": "alarm",
    "defect.closed": "warning",
    "coverage.gap": "warning",
    "camera.lost": "alarm",
    "camera.restored": "info",
    "camera.ended": "info",
    "camera.paused": "warning",
    "camera.resumed": "info",
    "coil.started": "info",
    "coil.ended": "info",
    "speed.stale": "warning",
    "speed.restored": "info",
    "image.bad": "warning",
    "image.restored": "info",
    "model.changed": "warning",
    "model.rolled_back": "alarm",
    "model.refused": "warning",
    "thresholds.changed": "warning",
    "calibration.refused": "warning",
    "camera.drifted": "warning",
    "camera.drift_cleared": "info",
    "config.changed": "warning",
    "config.refused": "alarm",
    "events.dropped": "alarm",
    "events.refused": "alarm",
    "node.started": "info",
    "node.stopped": "info",
}
"""Every event type.  A new one stands here, in `EventType` and in the schema; a test compares the three."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Where the time of a frame went, ms. Total runs from grab to decision."""

    queue: float
    preprocess: float
    inference: float
    decide: float
    total: float

    def as_json(self) -> dict[str, float]:
        return {
            "queue": round(self.queue, 3),
            "preprocess": round(self.preprocess, 3),
            "inference": round(self.inference, 3),
            "decide": round(self.decide, 3),
            "total": round(self.total, 3),
        }


@dataclass(frozen=True, slots=True)
class Defect:
    """One defect as seen so far; the closing event carries the final values."""

    track_id: str
    class_name: str
    confidence: float
    box_px: tuple[int, int, int, int]
    frames: int
    tiles: int
    duration_s: float = 0.0
    anomaly: float | None = None
    extent_px: tuple[int, int, int, int] | None = None
    """Where in the box, which is that of whole tiles, the flaw itself shows; None where nothing stands out."""
    box_mm: tuple[float, float, float, float] | None = None
    """Of the flaw itself, where its extent is known."""
    position_m: float | None = None
    length_mm: float | None = None
    coil: str | None = None
    """What `position_m` counts from the begin of; None: from the start of the node."""

    def as_json(self) -> dict[str, Any]:
        return {
            "track_id": self.track_id,
            "class": self.class_name,
            "confidence": round(self.confidence, 4),
            "anomaly": self.anomaly,
            "box_px": list(self.box_px),
            "extent_px": None if self.extent_px is None else list(self.extent_px),
            "box_mm": None if self.box_mm is None else list(self.box_mm),
            "position_m": self.position_m,
            "length_mm": self.length_mm,
            "coil": self.coil,
            "frames": self.frames,
            "tiles": self.tiles,
            "duration_s": round(self.duration_s, 3),
        }


@dataclass(frozen=True, slots=True)
class FrameRef:
    """Which picture an event speaks of."""

    number: int
    label: str

    def as_json(self) -> dict[str, Any]:
        return {"number": self.number, "label": self.label}


@dataclass(frozen=True, slots=True)
class Evidence:
    """A picture that was kept.  path: within the folder of evidence."""

    path: str
    sha256: str

    def as_json(self) -> dict[str, str]:
        return {"path": self.path, "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class Event:
    """One fact, as decided. `seq` is added when the outbox stores it, `replayed` when it is sent."""

    event_id: str
    camera: str
    type: EventType
    wall_ns: int
    monotonic_ns: int
    clock_synced: bool
    defect: Defect | None = None
    frame: FrameRef | None = None
    latency_ms: Latency | None = None
    detail: dict[str, Any] | None = None
    """What else there is to say: the reason, counts, a time range."""
    evidence: Evidence | None = None

    @classmethod
    def now(cls, clock: Clock, camera: str, kind: EventType, detail: dict[str, Any] | None = None) -> Event:
        """A new event, stamped with the time of `clock`."""
        wall_ns = clock.wall_ns()
        return cls(uuid7(wall_ns), camera, kind, wall_ns, clock.monotonic_ns(), clock_synced(), detail=detail)


@dataclass(frozen=True, slots=True)
class Origin:
    """What is the same for all events of one run of the daemon."""

    node: str
    boot_id: str
    model: dict[str, str]
    """name, version, sha256"""
    config_sha256: str


def as_json(event: Event, origin: Origin) -> dict[str, Any]:
    """The event as published, but for `seq` (0 here: the outbox gives it) and `replayed` (the publisher's)."""
    return {
        "schema": SCHEMA,
        "event_id": event.event_id,
        "seq": 0,
        "node": origin.node,
        "camera": event.camera,
        "type": event.type,
        "time": stamp(event.wall_ns),
        "monotonic_ns": event.monotonic_ns,
        "boot_id": origin.boot_id,
        "clock_synced": event.clock_synced,
        "replayed": False,
        "defect": None if event.defect is None else event.defect.as_json(),
        "frame": None if event.frame is None else event.frame.as_json(),
        "latency_ms": None if event.latency_ms is None else event.latency_ms.as_json(),
        "model": origin.model,
        "config_sha256": origin.config_sha256,
        "evidence": None if event.evidence is None else event.evidence.as_json(),
        "detail": event.detail,
    }
