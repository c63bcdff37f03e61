"""Every node at a broker, by the messages that it retains: status, state and coverage of each camera.

What others publish is not trusted: of each message only the fields that are known are taken, cut to lengths that fit a
table, and the number of nodes and cameras is bounded.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from edge.delivery.mqtt.topics import CAMERA_TOPICS
from edge.host.clock import NS_PER_S, stamp, wall_ns_of
from edge.host.text import one_line

SCHEMA: Final = "defectd.fleet/1"
MAX_NODES: Final = 500
MAX_CAMERAS: Final = 64
"""Of one node."""
MAX_TEXT: Final = 200
MISSED_SHARE: Final = 0.01
"""Of a camera's last window, late or dropped, from which the node counts as degraded."""
Verdict = Literal["offline", "not_inspecting", "degraded", "unknown", "inspecting"]
VERDICTS: Final[tuple[Verdict, ...]] = ("offline", "not_inspecting", "degraded", "unknown", "inspecting")
"""The worst first."""
ENDS: Final = {"stopped": "it was stopped", "lost": "the broker lost the connection"}
_LEVEL: Final = re.compile(r"[^/+#\x00-\x1f]{1,128}")


@dataclass(slots=True)
class _Node:
    status: Mapping[str, Any] = field(default_factory=dict)
    states: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    coverage: dict[str, Mapping[str, Any]] = field(default_factory=dict)


class Fleet:
    """Collects messages; owned by one thread."""

    def __init__(self, prefix: str) -> None:
        self._prefix = f"{prefix}/"
        self._nodes: dict[str, _Node] = {}
        self.left_out = 0
        """Messages that were not taken: not JSON, or of too many nodes or cameras."""

    @property
    def filters(self) -> tuple[str, ...]:
        """What to subscribe to."""
        return tuple(f"{self._prefix}{level}" for level in ("+/status", "+/+/state", "+/+/coverage"))

    def take(self, topic: str, payload: bytes) -> None:
        """Take one message; an empty one clears what its topic held."""
        parts = topic.removeprefix(self._prefix).split("/")
        if not topic.startswith(self._prefix) or not all(_LEVEL.fullmatch(part) for part in parts):
            self.left_out += 1
            return
        fields = _fields(payload)
        match parts:
            case [name, "status"] if fields is not None and (node := self._node(name)) is not None:
                node.status = fields
            case [name, camera, level] if (
                level in CAMERA_TOPICS and fields is not None and (node := self._node(name)) is not None
            ):
                kept = node.states if level == "state" else node.coverage
                if not fields:
                    kept.pop(camera, None)
                elif camera in kept or len(kept) < MAX_CAMERAS:
                    kept[camera] = fields
                else:
                    self.left_out += 1
            case _:
                self.left_out += 1

    def _node(self, name: str) -> _Node | None:
        if name not in self._nodes and len(self._nodes) >= MAX_NODES:
            return None
        return self._nodes.setdefault(name, _Node())

    def as_json(self, wall_ns: int) -> dict[str, Any]:
        """All nodes, the worst first; unknown values are None.  wall_ns: the present."""
        found = [_node_json(name, node, wall_ns) for name, node in self._nodes.items() if node.status or node.states]
        found.sort(key=lambda one: (VERDICTS.index(one["verdict"]), one["node"]))
        return {"schema": SCHEMA, "nodes": found, "left_out": self.left_out}


def _node_json(name: str, node: _Node, wall_ns: int) -> dict[str, Any]:
    status = node.status
    cameras = [_camera_json(one, node) for one in sorted({*node.states, *_names(status.get("cameras"))})]
    verdict, reasons = _verdict(status, cameras)
    heard_ns = max((_wall_ns(one.get("time")) for one in node.coverage.values()), default=0)
    heard_ns = heard_ns or _wall_ns(status.get("since"))
    strips = [one for one in (state.get("strip") for state in node.states.values()) if isinstance(one, dict)]
    positions = [position for strip in strips if (position := _number(strip.get("position_m"))) is not None]
    shares = [one["inspected"] for one in cameras if one["inspected"] is not None]
    return {
        "node": name,
        "verdict": verdict,
        "reasons": reasons,
        "online": status.get("online") if isinstance(status.get("online"), bool) else None,
        "since": _text(status.get("since")) or (stamp(heard_ns) if heard_ns else None),
        "age_s": None if not heard_ns else round(max(0, wall_ns - heard_ns) / NS_PER_S, 1),
        "version": _text(status.get("version")),
        "model": _model(status.get("model")),
        "coil": next((coil for strip in strips if (coil := _text(strip.get("coil")))), None),
        "position_m": max(positions, default=None),
        "inspected": None if verdict == "offline" else min(shares, default=None),
        "cameras": cameras,
        "link": _link(status.get("page")),
    }


def _camera_json(name: str, node: _Node) -> dict[str, Any]:
    state, coverage = node.states.get(name, {}), node.coverage.get(name, {})
    frames = coverage.get("frames")
    counts = {key: _number(value) or 0.0 for key, value in frames.items()} if isinstance(frames, dict) else {}
    seen, delivered = sum(counts.get(key, 0.0) for key in ("ok", "defect", "unsure")), sum(counts.values())
    missed = counts.get("late", 0.0) + counts.get("dropped", 0.0) - (_number(coverage.get("paused_frames")) or 0.0)
    return {
        "name": _cut(name),
        "state": _text(state.get("state")),
        "reason": _text(state.get("reason")),
        "since": _text(state.get("since")),
        "fps": _number(state.get("fps")),
        "inspected": round(seen / delivered, 4) if delivered > 0 else None,
        "missed": round(max(0.0, missed) / delivered, 4) if delivered > 0 else None,
    }


def _verdict(status: Mapping[str, Any], cameras: list[dict[str, Any]]) -> tuple[Verdict, list[str]]:
    """How a node is doing, and why."""
    if status.get("online") is False:
        return "offline", [ENDS.get(str(status.get("reason")), "it is offline")]
    if not cameras:
        return "unknown", ["it reports no camera"]
    blind = [one for one in cameras if one["state"] != "running"]
    reasons = [_why(one) for one in blind]
    if len(blind) == len(cameras):
        return "not_inspecting", reasons
    for one in cameras:
        if one["state"] == "running" and one["reason"]:
            reasons.append(f"camera {one['name']} has {one['reason']}")
        if (one["missed"] or 0.0) > MISSED_SHARE:
            reasons.append(f"camera {one['name']}: {one['missed']:.1%} of the frames were late or dropped")
    outputs = status.get("outputs")
    for name, output in sorted(outputs.items()) if isinstance(outputs, dict) else ():
        state = output.get("state") if isinstance(output, dict) else None
        if state != "running":
            reasons.append(_cut(f"the output {name} is {state}"))
    return ("degraded" if reasons else "inspecting"), reasons


def _why(camera: Mapping[str, Any]) -> str:
    words = str(camera["state"] or "unknown").replace("_", " ")
    return f"camera {camera['name']}: {words}" + (f", {camera['reason']}" if camera["reason"] else "")


def _link(page: object) -> str | None:
    """The address of a node's page, unless only its own machine can open it."""
    link = page.get("link") if isinstance(page, dict) else None
    if not isinstance(link, str) or len(link) > MAX_TEXT or one_line(link) != link:
        return None
    try:
        parts = urlsplit(link)
        host = parts.hostname or ""
    except ValueError:
        return None
    is_local = host in ("", "localhost", "::1") or host.startswith("127.")
    return link if parts.scheme in ("http", "https") and not is_local else None


def _model(model: object) -> str | None:
    if not isinstance(model, dict):
        return None
    return _text(" ".join(str(model[key]) for key in ("name", "version") if model.get(key)))


def _names(value: object) -> list[str]:
    names = value if isinstance(value, list) else []
    return [name for name in names[:MAX_CAMERAS] if isinstance(name, str) and _LEVEL.fullmatch(name)]


def _fields(payload: bytes) -> dict[str, Any] | None:
    """The object of a message; empty for an empty one, None for what is no object."""
    if not payload:
        return {}
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _text(value: object) -> str | None:
    return _cut(value) if isinstance(value, str) and value else None


def _cut(text: str) -> str:
    return one_line(text, MAX_TEXT)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _wall_ns(value: object) -> int:
    """0 for what is no time."""
    try:
        return wall_ns_of(value) if isinstance(value, str) else 0
    except ValueError:
        return 0
