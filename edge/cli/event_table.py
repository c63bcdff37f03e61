"""Events as a table for people: what, where and how large, in local time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from edge.cli import screen, table
from edge.cli.table import Cell, Column
from edge.event import EVENT_TYPES
from edge.host.clock import local_date_time, wall_ns_of
from edge.host.text import one_line

if TYPE_CHECKING:
    from edge.delivery.outbox.rows import StoredEvent

COLUMNS: Final = (
    Column("time"),
    Column("seq", right=True),
    Column("camera"),
    Column("event"),
    Column("what", folds=True),
    Column("where", folds=True),
    Column("delivery"),
)
DELIVERY: Final = {"refused": "bold red", "queued": "yellow"}
MAX_SHOWN: Final = 200
"""Characters of what is no event."""


def show(stored: Iterable[StoredEvent]) -> None:
    """Print them, one a row."""
    table.show(COLUMNS, (_row(row.payload, row.state) for row in stored))


def _row(payload: bytes, state: str) -> tuple[Cell, ...]:
    delivery = (state, DELIVERY.get(state, "dim"))
    try:
        event = json.loads(payload)
        at = local_date_time(wall_ns_of(event["time"]))
        what: Cell
        kind: Cell = (event["type"], screen.EVENT_STYLES.get(EVENT_TYPES.get(event["type"], "info"), ""))
        what, where = screen.detail_words(event), ""
        if event.get("defect"):
            kind, (what, where) = event["type"], _defect(event["defect"])
        return at, str(event["seq"]), event["camera"], kind, what, where, delivery
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, OSError, RecursionError):
        return "", "", "", ("not an event", "yellow"), one_line(payload, MAX_SHOWN), "", delivery


def _defect(defect: Mapping[str, Any]) -> tuple[Cell, str]:
    """Class, severity, confidence and length; then where it is."""
    rank = defect.get("severity") or "minor"
    what = f"{defect['class']} {rank} {defect['confidence']:.2f}"
    if defect.get("length_mm") is not None:
        what += f", {defect['length_mm']:.0f} mm long"
    if defect.get("position_m") is not None:
        where = f"{defect['position_m']:.2f} m" + (f" on {defect['coil']}" if defect.get("coil") is not None else "")
    else:
        x, y, w, h = defect.get("extent_px") or defect["box_px"]
        where = f"{x},{y} {w}x{h} px"
    return (what, screen.SEVERITIES.get(rank, "")), where
