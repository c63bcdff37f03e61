"""What a terminal shows of a node: pure functions from the state object and events to coloured text.

Shape and word carry the meaning, colour repeats it: nothing is lost with NO_COLOR or to a colour-blind reader.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edge.host.clock import local_time, wall_ns_of
from edge.host.text import one_line

VERDICTS: Final = {
    "inspecting": ("✓ inspecting", "bold green"),
    "degraded": ("! degraded", "bold yellow"),
    "not_inspecting": ("✗ NOT INSPECTING", "bold red"),
}
SEVERITIES: Final = {"minor": "", "major": "bold yellow", "critical": "bold red"}
EVENT_STYLES: Final = {"alarm": "bold red", "warning": "yellow", "info": "dim"}
LEVELS: Final = {"warning": ("! ", "yellow"), "error": ("✗ ", "bold red"), "critical": ("✗ ", "bold red")}
INSPECTED: Final = ("ok", "defect", "unsure")
MISSED: Final = {"bad_image": "bad", "late": "late", "dropped": "dropped"}
"""States of a frame, and their words."""
UNKNOWN: Final = "-"
MAX_INNER: Final = 8
"""Values of a list or an object inside an event."""
_STAMP: Final = re.compile(r"\d{4}-[01]\d-[0-3]\dT[012]\d:[0-5]\d:[0-5]\d\.\d{3}Z")


def header(state: Mapping[str, Any]) -> RenderableType:
    """The node on a few lines: verdict with reasons, strip, cameras.  state: `defectd.api.state/1`."""
    rows: list[RenderableType] = [_first_line(state)]
    rows += [Text(f"  {one_line(reason)}", "yellow") for reason in state.get("reasons", [])[:4]]
    if state["strip"].get("is_on"):
        rows.append(_strip_line(state["strip"], state.get("grade")))
    rows.append(cameras(state["cameras"]))
    return Group(*rows)


def _first_line(state: Mapping[str, Any]) -> Text:
    words, style = VERDICTS.get(state["verdict"], (str(state["verdict"]), ""))
    running = sum(camera["state"] == "running" for camera in state["cameras"])
    delivery = state["delivery"]
    broker = {True: "broker up", False: "broker AWAY", None: "broker unknown"}[delivery.get("connected")]
    model = state.get("model") or {}
    return Text.assemble(
        (f"{state['node']} ", "bold"),
        (words, style),
        f"  {running} of {len(state['cameras'])} cameras  {broker}, {_number(delivery.get('queued'))} wait",
        (f"  model {model.get('version', UNKNOWN)} {model.get('precision') or ''}".rstrip(), "dim"),
    )


def _strip_line(strip: Mapping[str, Any], grade: Mapping[str, Any] | None) -> Text:
    speed = strip.get("speed_m_per_s")
    found = strip["defects"]
    coil = one_line(strip["coil"], 60) if strip.get("coil") else "none"
    line = Text.assemble(
        "coil ",
        (coil, "bold"),
        f"  {_number(strip.get('position_m'), 1)} m  {_number(None if speed is None else speed * 60, 0)} m/min",
        f"  partial {_number(strip.get('partial_m'), 1)} m  missed {_number(strip.get('missed_m'), 1)} m",
        f"  {sum(found.values())} defects",
    )
    for severity in ("critical", "major"):
        if found.get(severity):
            line.append(f"  {found[severity]} {severity}", SEVERITIES[severity])
    if grade:
        line.append(f"  grade so far {grade['grade']}", "bold")
    return line


def cameras(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A line for each camera: state with its reason, rate, latency, frames that were not inspected."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=True, header_style="dim")
    table.add_column("camera", no_wrap=True)
    table.add_column("state", overflow="fold")
    for name in ("fps", "p99 ms", "inspected", "missed", "defects"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        frames = row.get("frames")
        table.add_row(
            row["name"],
            _camera_state(row),
            _number(row.get("fps"), 1),
            f"{_number(row.get('p99_ms'), 1)} of {_number(row.get('budget_ms'), 0)}",
            _number(None if frames is None else sum(frames.get(key, 0) for key in INSPECTED)),
            _missed(frames),
            _number(row.get("defects")),
        )
    return table


def _missed(frames: Mapping[str, int] | None) -> Text:
    """How many frames were not inspected, and why."""
    if frames is None:
        return Text(UNKNOWN)
    causes = {words: frames.get(key, 0) for key, words in MISSED.items()}
    total = sum(causes.values())
    why = ", ".join(f"{_number(count)} {words}" for words, count in causes.items() if count)
    return Text(f"{_number(total)} ({why})" if why else "0", "yellow" if why else "")


def _camera_state(row: Mapping[str, Any]) -> Text:
    running = row["state"] == "running"
    mark, style = ("✓ ", "green") if running else ("✗ ", "bold red")
    reason = f": {one_line(row['reason'], 120)}" if row.get("reason") else ""
    return Text(f"{mark}{row['state']}{reason}", style if not running or not reason else "yellow", overflow="ellipsis")


def event_line(event: Mapping[str, Any], severity: str) -> Text:
    """One event on one line: when, which camera, what, where, how large.  severity: of the event's type."""
    at = local_time(wall_ns_of(event["time"])) if event.get("time") else ""
    line = Text.assemble((f"{at}  ", "dim"), f"{event.get('camera', ''):<8} ")
    defect = event.get("defect")
    if defect is None:
        words = detail_words(event)
        return line.append(f"{event.get('type')}", EVENT_STYLES.get(severity, "")).append(f"  {one_line(words, 160)}")
    rank = defect.get("severity") or "minor"
    line.append(f"{one_line(str(defect.get('class')), 40):<17}", SEVERITIES.get(rank, "") or "bold")
    line.append(f" {rank:<8}", SEVERITIES.get(rank, ""))
    line.append(f" {_number(defect.get('confidence'), 2)}")
    if defect.get("position_m") is not None:
        line.append(f"  at {_number(defect['position_m'], 2)} m")
    across = defect.get("across_mm")
    if across:
        line.append(f"  {_number(across[0], 0)} mm across")
    if defect.get("length_mm") is not None:
        line.append(f"  {_number(defect['length_mm'], 0)} mm long")
    return line


def detail_words(event: Mapping[str, Any]) -> str:
    """What an event says beside its type."""
    detail = event.get("detail") or {}
    return "  ".join(f"{key} {_value(value)}" for key, value in detail.items() if value not in (None, [], {}))


def log_line(record: Mapping[str, Any]) -> Text:
    """One line of the daemon's log: time, level where it is not information, text.  record: as `logs` writes JSON."""
    mark, style = LEVELS.get(str(record.get("level")), ("", "dim"))
    at = local_time(wall_ns_of(record["time"])) if record.get("time") else ""
    return Text.assemble((f"{at}  ", "dim"), (f"{mark}{record.get('message', '')}", style))


def _number(value: float | None, digits: int = 0) -> str:
    return UNKNOWN if value is None else f"{value:,.{digits}f}"


def _value(value: Any) -> str:
    """A value of an event for people: moments in local time, counts as `22 late`."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ", ".join(f"{_value(inner)} {one_line(str(key), 40)}" for key, inner in [*value.items()][:MAX_INNER])
    if isinstance(value, list):
        return ", ".join(_value(inner) for inner in value[:MAX_INNER])
    if isinstance(value, str) and _STAMP.fullmatch(value):
        return local_time(wall_ns_of(value))
    return one_line(str(value), 80)
