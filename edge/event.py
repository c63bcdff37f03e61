"""The events that the node reports: values, and their JSON form (`edge/schema/event-1.json`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from edge.host.clock import Clock, clock_synced, stamp, uuid7

SCHEMA: Final = "defectd.event/1"
NODE_CAMERA: Final = "node"
"""Takes the place of the camera name in events about the node itself."""

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
    "roll_mark.suspected",
    "coil.graded",
    "coil.released",
    "speed.stale",
    "speed.restored",
    "width.out",
    "width.restored",
    "image.bad",
    "image.restored",
    "model.changed",
    "model.rolled_back",
    "model.refused",
    "model.out_of_domain",
    "model.in_domain",
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
    "operator.acted",
]
Severity = Literal["info", "warning", "alarm"]
"""A full outbox drops info first, then the oldest of the others."""
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
    "roll_mark.suspected": "alarm",
    "coil.graded": "info",
    "coil.released": "info",
    "speed.stale": "warning",
    "speed.restored": "info",
    "width.out": "alarm",
    "width.restored": "info",
    "image.bad": "warning",
    "image.restored": "info",
    "model.changed": "warning",
    "model.rolled_back": "alarm",
    "model.refused": "warning",
    "model.out_of_domain": "warning",
    "model.in_domain": "info",
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
    "operator.acted": "warning",
}
"""Every event type with its severity.  A new type needs an entry here, in `EventType` and in the schema; a test
compares the three."""


DefectSeverity = Literal["minor", "major", "critical"]
"""How severe a defect is for its product: `edge.coverage.severity`."""


@dataclass(frozen=True, slots=True)
class Latency:
    """How long each step took for a frame, ms. Total runs from grab to decision."""

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
class LaneCoil:
    """The coil of a lane that a defect lies in, and where on it; position_m: None: not known."""

    lane: str
    coil: str
    position_m: float | None

    def as_json(self) -> dict[str, Any]:
        return {"lane": self.lane, "coil": self.coil, "position_m": self.position_m}


@dataclass(frozen=True, slots=True)
class Defect:
    """One defect as observed so far; the closing event carries the final values."""

    track_id: str
    class_name: str
    confidence: float
    box_px: tuple[int, int, int, int]
    frames: int
    tiles: int
    duration_s: float = 0.0
    anomaly: float | None = None
    extent_px: tuple[int, int, int, int] | None = None
    """Where in the box, which covers whole tiles, the defect itself is; None where it is not known."""
    box_mm: tuple[float, float, float, float] | None = None
    """The box of `extent_px`, or of `box_px` when the extent is not known."""
    position_m: float | None = None
    length_mm: float | None = None
    coil: str | None = None
    """`position_m` counts from the start of this coil; None: from the start of the node."""
    severity: DefectSeverity = "minor"
    surface: str | None = None
    """top, bottom; None: the configuration does not state it."""
    across_mm: tuple[float, float] | None = None
    """From, to: across the strip, from its operator side."""
    candidates: tuple[tuple[str, float], ...] = ()
    """What an `unknown` defect looks like: class names with their probabilities, the most probable first."""
    taught: str | None = None
    """Beginning of the sha256 of the taught classes that named it; None: the model's own."""
    lane: str | None = None
    """The lane that has most of it; None: it lies beside the lanes, or its place across is not known."""
    lane_coils: tuple[LaneCoil, ...] = ()
    """The coils of the lanes that it touches, or may touch."""

    def as_json(self) -> dict[str, Any]:
        return {
            "track_id": self.track_id,
            "class": self.class_name,
            "confidence": round(self.confidence, 4),
            "anomaly": self.anomaly,
            "severity": self.severity,
            "box_px": list(self.box_px),
            "extent_px": None if self.extent_px is None else list(self.extent_px),
            "box_mm": None if self.box_mm is None else list(self.box_mm),
            "position_m": self.position_m,
            "length_mm": self.length_mm,
            "coil": self.coil,
            "surface": self.surface,
            "across_mm": None if self.across_mm is None else list(self.across_mm),
            "lane": self.lane,
            **({"lane_coils": [each.as_json() for each in self.lane_coils]} if self.lane_coils else {}),
            "frames": self.frames,
            "tiles": self.tiles,
            "duration_s": round(self.duration_s, 3),
            "candidates": [{"class": name, "confidence": round(value, 4)} for name, value in self.candidates] or None,
            "taught": self.taught,
        }


@dataclass(frozen=True, slots=True)
class FrameRef:
    """The frame that an event is about."""

    number: int
    label: str

    def as_json(self) -> dict[str, Any]:
        return {"number": self.number, "label": self.label}


@dataclass(frozen=True, slots=True)
class Evidence:
    """A picture kept as evidence.  path: within the evidence folder."""

    path: str
    sha256: str

    def as_json(self) -> dict[str, str]:
        return {"path": self.path, "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class Event:
    """One fact, as decided. The outbox adds `seq` when it stores the event, the publisher adds `replayed`."""

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
    """Further facts by event type: the reason, counts, a time range."""
    evidence: Evidence | None = None

    @classmethod
    def now(cls, clock: Clock, camera: str, kind: EventType, detail: dict[str, Any] | None = None) -> Event:
        """A new event, stamped with the current time of `clock`."""
        wall_ns = clock.wall_ns()
        return cls(uuid7(wall_ns), camera, kind, wall_ns, clock.monotonic_ns(), clock_synced(), detail=detail)


@dataclass(frozen=True, slots=True)
class Origin:
    """What all events have in common until the model or the configuration changes."""

    node: str
    boot_id: str
    model: dict[str, str]
    """name, version, sha256"""
    config_sha256: str


def as_json(event: Event, origin: Origin) -> dict[str, Any]:
    """The event as published, except for `seq` (0 here: the outbox sets it) and `replayed` (the publisher sets it)."""
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
