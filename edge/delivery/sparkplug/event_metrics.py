"""One stored event as metrics: of the node, and, for a defect, of its camera's device."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from edge.delivery.outbox.rows import Row
from edge.delivery.sparkplug.metrics import LAST_DEFECT, NODE_METRICS
from edge.delivery.sparkplug.payload import DataType, Metric, Value
from edge.event import NODE_CAMERA
from edge.host.clock import NS_PER_MS


@dataclass(frozen=True, slots=True)
class ParsedEvent:
    """A row of the outbox, parsed."""

    row: Row
    camera: str
    time_ms: int
    fields: dict[str, Any]

    @classmethod
    def of(cls, row: Row) -> ParsedEvent:
        """Never raises: the metrics of what cannot be parsed are null."""
        try:
            fields = json.loads(row.payload)
            time_ms = round(datetime.fromisoformat(fields["time"]).timestamp() * 1000)
        except (ValueError, TypeError, KeyError, RecursionError):
            fields, time_ms = {}, row.stored_ns // NS_PER_MS
        return cls(row, str(fields.get("camera", NODE_CAMERA)), time_ms, fields)

    def node_metrics(self) -> tuple[Metric, ...]:
        values: dict[str, Value] = {
            "Event/Seq": self.row.seq,
            "Event/ID": self.row.event_id,
            "Event/Type": _or_none(self.fields.get("type"), str),
            "Event/Camera": self.camera,
            "Event/JSON": self.row.payload.decode("utf-8", "replace"),
        }
        return self._metrics(NODE_METRICS, values)

    def defect_metrics(self) -> tuple[Metric, ...]:
        """Empty for an event without a defect."""
        defect = self.fields.get("defect")
        if not isinstance(defect, dict):
            return ()
        box = defect.get("box_px")
        across = defect.get("across_mm")
        ends = [_number(end) for end in across] if isinstance(across, list) and len(across) == 2 else [None] * 2
        sides = [_or_none(side, int) for side in box] if isinstance(box, list) and len(box) == 4 else [None] * 4
        values: dict[str, Value] = {
            "Last Defect/Seq": self.row.seq,
            "Last Defect/Open": self.fields.get("type") == "defect.opened",
            "Last Defect/Track ID": _or_none(defect.get("track_id"), str),
            "Last Defect/Class": _or_none(defect.get("class"), str),
            "Last Defect/Confidence": _number(defect.get("confidence")),
            "Last Defect/X px": sides[0],
            "Last Defect/Y px": sides[1],
            "Last Defect/Width px": sides[2],
            "Last Defect/Height px": sides[3],
            "Last Defect/Position m": _number(defect.get("position_m")),
            "Last Defect/Across From mm": ends[0],
            "Last Defect/Across To mm": ends[1],
        }
        return self._metrics(LAST_DEFECT, values)

    def _metrics(self, kinds: Mapping[str, DataType], values: Mapping[str, Value]) -> tuple[Metric, ...]:
        return tuple(Metric(name, kinds[name], value, self.time_ms) for name, value in values.items())


def _or_none(value: Any, kind: type[str | int]) -> Any:
    return value if isinstance(value, kind) and not isinstance(value, bool) else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
