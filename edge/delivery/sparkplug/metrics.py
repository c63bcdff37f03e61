"""The metrics of the edge node and of its devices: names, types, and how the daemon's values become metric values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from edge.coverage.strip_position import StripReading
from edge.delivery.output import CameraReport, NodeProperties
from edge.delivery.sparkplug.payload import DataType, Value

BD_SEQ: Final = "bdSeq"
REBIRTH: Final = "Node Control/Rebirth"
OUTBOX_DEPTH: Final = "Outbox/Depth"
EVENTS_LOST: Final = "Event/Lost"
EVENT_COUNT: Final = "Event Count"
STATE: Final = "State"
STATE_REASON: Final = "State Reason"

NODE_METRICS: Final = {
    "Properties/Version": DataType.STRING,
    "Properties/Config SHA-256": DataType.STRING,
    "Model/Name": DataType.STRING,
    "Model/Version": DataType.STRING,
    "Model/SHA-256": DataType.STRING,
    OUTBOX_DEPTH: DataType.INT64,
    "Strip/Speed m per s": DataType.DOUBLE,
    "Strip/Position m": DataType.DOUBLE,
    "Strip/Coil": DataType.STRING,
    EVENTS_LOST: DataType.INT64,
    "Event/Seq": DataType.INT64,
    "Event/ID": DataType.STRING,
    "Event/Type": DataType.STRING,
    "Event/Camera": DataType.STRING,
    "Event/JSON": DataType.STRING,
}
LAST_DEFECT: Final = {
    "Last Defect/Seq": DataType.INT64,
    "Last Defect/Open": DataType.BOOLEAN,
    "Last Defect/Track ID": DataType.STRING,
    "Last Defect/Class": DataType.STRING,
    "Last Defect/Confidence": DataType.DOUBLE,
    "Last Defect/X px": DataType.INT32,
    "Last Defect/Y px": DataType.INT32,
    "Last Defect/Width px": DataType.INT32,
    "Last Defect/Height px": DataType.INT32,
    "Last Defect/Position m": DataType.DOUBLE,
    "Last Defect/Across From mm": DataType.DOUBLE,
    "Last Defect/Across To mm": DataType.DOUBLE,
}
DEVICE_METRICS: Final = {
    STATE: DataType.STRING,
    STATE_REASON: DataType.STRING,
    "FPS": DataType.DOUBLE,
    "Latency/P50 ms": DataType.DOUBLE,
    "Latency/P99 ms": DataType.DOUBLE,
    "Frames/OK": DataType.INT64,
    "Frames/Defect": DataType.INT64,
    "Frames/Unsure": DataType.INT64,
    "Frames/Bad Image": DataType.INT64,
    "Frames/Late": DataType.INT64,
    "Frames/Dropped": DataType.INT64,
    "Tiles/Inspected": DataType.INT64,
    "Tiles/Skipped": DataType.INT64,
    "No Signal s": DataType.DOUBLE,
    "Strip Width mm": DataType.DOUBLE,
    EVENT_COUNT: DataType.INT64,
    **LAST_DEFECT,
}
_FRAMES: Final = {
    "ok": "Frames/OK",
    "defect": "Frames/Defect",
    "unsure": "Frames/Unsure",
    "bad_image": "Frames/Bad Image",
    "late": "Frames/Late",
    "dropped": "Frames/Dropped",
}


def property_values(properties: NodeProperties) -> Mapping[str, Value]:
    """Metrics of the node."""
    return {
        "Properties/Version": properties.version,
        "Properties/Config SHA-256": properties.config_sha256,
        "Model/Name": properties.model_name,
        "Model/Version": properties.model_version,
        "Model/SHA-256": properties.model_sha256,
    }


def strip_values(reading: StripReading) -> Mapping[str, Value]:
    """Metrics of the node; the position in whole mm."""
    return {
        "Strip/Speed m per s": reading.m_per_s,
        "Strip/Position m": None if reading.position_m is None else round(reading.position_m, 3),
        "Strip/Coil": reading.coil,
    }


def report_values(report: CameraReport) -> Mapping[str, Value]:
    """Metrics of a device."""
    total = report.coverage["since_start"]
    return {
        "FPS": round(report.fps, 2),
        "Latency/P50 ms": report.p50_ms,
        "Latency/P99 ms": report.p99_ms,
        "Tiles/Inspected": total["tiles"]["inspected"],
        "Tiles/Skipped": total["tiles"]["skipped"],
        "No Signal s": total["no_signal_s"],
        "Strip Width mm": None if report.width_mm is None else round(report.width_mm, 2),
        **{_FRAMES[state]: count for state, count in total["frames"].items() if state in _FRAMES},
    }
