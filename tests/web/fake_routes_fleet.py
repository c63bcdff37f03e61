"""The answers of the fake node about the other nodes at its broker."""

from __future__ import annotations

import time
from typing import Any

from fake_node import stamp


def camera(name: str, state: str = "running", reason: str | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "state": state,
        "reason": reason,
        "since": stamp(time.time() - 900),
        "fps": 30.0 if state == "running" else 0.0,
        "inspected": 0.998 if state == "running" else None,
        "missed": 0.001 if state == "running" else None,
    }


def about(name: str, verdict: str, cameras: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    return {
        "node": name,
        "verdict": verdict,
        "reasons": [],
        "online": verdict != "offline",
        "since": stamp(time.time() - 7000),
        "age_s": 4.2,
        "version": "0.9.0",
        "model": "student 0.3",
        "coil": "A4711",
        "position_m": 812.4,
        "inspected": 0.998,
        "cameras": cameras,
        "link": None,
    } | changes


def fleet(node: Any, _request: Any) -> dict[str, Any]:
    """Five nodes; none while nothing is known."""
    both = [camera("bottom"), camera("top")]
    nodes = [
        about("galvanizing-2", "offline", [camera("top")], reasons=["the broker lost the connection"], inspected=None,
              since=stamp(time.time() - 7421),
              age_s=7421.0, coil=None, position_m=None),
        about("line4", "not_inspecting", [camera("bottom", "no_signal", "no answer for 40 s"), camera("top", "paused")],
              reasons=["camera bottom: no signal, no answer for 40 s", "camera top: paused"], inspected=None,
              coil=None, position_m=None),
        about("line7", "degraded", both, reasons=["camera top has drifted: 0.6 px blur"], inspected=0.942,
              link="https://line7.plant.example/", coil="B0093", position_m=91.0),
        about("line3", "inspecting", both),
        about("skinpass", "inspecting", [camera(f"cam-{number}") for number in range(1, 9)], coil="C1", age_s=8.9),
    ]  # fmt: skip
    problem = "the broker was not reached" if node.kind == "trouble" else None
    return {
        "schema": "defectd.api.fleet/1",
        "own": "line3",
        "nodes": [] if node.kind == "empty" else nodes,
        "asked": stamp(time.time() - 3),
        "problem": problem,
    }


ROUTES = {("GET", "/fleet"): fleet}
