"""The state object of the page: everything that a person wants to know of the node at one moment, as JSON values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from edge.coverage.strip_position import StripReading
from edge.delivery.output import CameraFigures, CameraReport, NodeProperties, NodeStatus
from edge.delivery.page.defect_counts import DefectCounts

SCHEMA: Final = "defectd.api.state/1"
MISSED_SHARE: Final = 0.01
"""Of a camera's frames in a report window, late or dropped, from which the node counts as degraded."""


@dataclass(slots=True)
class Known:
    """The newest values that the feed has received.  cameras: those of the configuration."""

    node: str
    version: str
    epoch: str
    cameras: tuple[str, ...]
    properties: NodeProperties | None = None
    strip: StripReading = field(default_factory=lambda: StripReading("off"))
    status: NodeStatus | None = None
    states: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """State messages, by camera."""
    reports: dict[str, CameraReport] = field(default_factory=dict)
    defects: DefectCounts = field(default_factory=DefectCounts)
    last_seq: int = 0


def state_object(known: Known, time: str) -> dict[str, Any]:
    """The object; unknown values are None.  time: the present, RFC 3339."""
    status = known.status
    verdict, reasons = _verdict(known)
    return {
        "schema": SCHEMA,
        "node": known.node,
        "version": known.version,
        "time": time,
        "epoch": known.epoch,
        "since": None if status is None else status.since,
        "config_sha256": None if known.properties is None else known.properties.config_sha256,
        "verdict": verdict,
        "reasons": reasons,
        "strip": _strip(known),
        "cameras": [_camera(known, name) for name in known.cameras],
        "delivery": {
            "connected": None,
            "queued": None,
            "dead_letters": None,
            **({} if status is None else status.delivery),
            "last_seq": known.last_seq,
        },
        "outputs": [] if status is None else [{"name": name, **each} for name, each in status.outputs.items()],
        "model": _model(known),
        "machine": None if status is None else dict(status.machine),
        "evidence": None if status is None or status.evidence is None else dict(status.evidence),
        "grade": None if status is None else status.grade,
        "roll_marks": [] if status is None else list(status.roll_marks),
    }


def _strip(known: Known) -> dict[str, Any]:
    reading = known.strip if known.status is None else known.status.strip
    return {
        "is_on": reading.state != "off",
        "speed": reading.state,
        "coil": reading.coil,
        "position_m": None if reading.position_m is None else round(reading.position_m, 3),
        "speed_m_per_s": None if reading.m_per_s is None else round(reading.m_per_s, 4),
        "since": known.defects.since or reading.kept_since,
        **_meters(known),
        "defects": dict(known.defects.by_severity),
    }


def _meters(known: Known) -> dict[str, float | None]:
    """Of the camera that has inspected the least: strip that one side has not seen was not inspected."""
    found = [] if known.status is None else [each.strip_m for each in known.status.cameras.values() if each.strip_m]
    keys = ("inspected_m", "partial_m", "missed_m")
    if not found:
        return dict.fromkeys(keys)
    least = max(found, key=lambda meters: meters["missed_m"] + meters["partial_m"])
    return {key: least[key] for key in keys}


def _camera(known: Known, name: str) -> dict[str, Any]:
    state, report = known.states.get(name, {}), known.reports.get(name)
    figures = None if known.status is None else known.status.cameras.get(name)
    return {
        "name": name,
        "state": state.get("state", "no_signal"),
        "since": state.get("since"),
        "reason": state.get("reason"),
        "fps": state.get("fps"),
        "p50_ms": None if report is None else round(report.p50_ms, 3),
        "p99_ms": None if report is None else round(report.p99_ms, 3),
        "drift": state.get("drift"),
        "taught": state.get("taught"),
        "domain": state.get("domain"),
        "thresholds": state.get("thresholds"),
        "calibrated_thresholds": state.get("calibrated_thresholds"),
        **_figures(figures),
        "defects": known.defects.by_camera.get(name, 0),
    }


def _figures(figures: CameraFigures | None) -> dict[str, Any]:
    if figures is None:
        names = ("budget_ms", "size_px", "roi_px", "mm_per_px", "surface", "operator_side", "frames", "tiles")
        return dict.fromkeys(names)
    return {
        "budget_ms": figures.budget_ms,
        "size_px": figures.size_px,
        "roi_px": figures.roi_px,
        "mm_per_px": figures.mm_per_px,
        "surface": figures.surface,
        "operator_side": figures.operator_side,
        "frames": dict(figures.frames),
        "tiles": dict(figures.tiles),
        "strip_m": None if figures.strip_m is None else dict(figures.strip_m),
        "is_generated": figures.is_generated,
    }


def _model(known: Known) -> dict[str, Any] | None:
    if known.status is not None:
        return dict(known.status.model)
    properties = known.properties
    if properties is None:
        return None
    return {
        "name": properties.model_name,
        "version": properties.model_version,
        "sha256": properties.model_sha256,
        "precision": None,
        "classes": [],
        "canary": None,
        "shadow": None,
    }


def _verdict(known: Known) -> tuple[str, list[str]]:
    """Whether the strip is being inspected, and what is wrong."""
    blind = [name for name in known.cameras if known.states.get(name, {}).get("state") != "running"]
    reasons = [_why_blind(name, known.states.get(name, {})) for name in blind]
    if len(blind) == len(known.cameras):
        return "not_inspecting", reasons
    reasons += [*_camera_reasons(known), *_node_reasons(known)]
    return "degraded" if reasons else "inspecting", reasons


def _why_blind(name: str, state: Mapping[str, Any]) -> str:
    what = {
        "paused": "is paused",
        "frozen": "repeats the same picture",
        "bad_image": "does not show the surface",
    }.get(str(state.get("state")), "delivers no picture")
    return f"camera {name} {what}" + (f": {state['reason']}" if state.get("reason") else "")


def _camera_reasons(known: Known) -> Iterator[str]:
    for name in known.cameras:
        state, report = known.states.get(name, {}), known.reports.get(name)
        if state.get("state") != "running":
            continue
        if state.get("reason"):
            yield f"camera {name} has {state['reason']}"
        if report is None:
            continue
        frames, delivered = report.coverage.get("frames", {}), report.coverage.get("delivered", 0)
        missed = frames.get("late", 0) + frames.get("dropped", 0) - report.coverage.get("paused_frames", 0)
        if delivered and missed > MISSED_SHARE * delivered:
            yield f"camera {name}: {missed} of {delivered} frames were late or dropped"


def _node_reasons(known: Known) -> Iterator[str]:
    status = known.status
    if status is None:
        return
    if status.strip.state == "stale":
        yield "the speed of the strip is unknown"
    if not status.delivery.get("connected", True):
        yield f"the broker is not connected: {status.delivery.get('queued', 0)} events wait"
    for name, output in status.outputs.items():
        if output.get("state") != "running":
            yield f"the output {name} is restarting"
    slowed = status.machine.get("throttled")
    if slowed:
        yield f"the machine is slowed down: {', '.join(slowed)}"
