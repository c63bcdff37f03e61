"""The answers of the fake node for the guided start."""

from __future__ import annotations

from typing import Any

PRESENT = {
    "file": "/etc/defectd/config.yaml",
    "sha256": "a" * 64,
    "can_write": True,
    "can_undo": True,
    "problem": None,
    "node": "line3",
    "broker": "embedded",
    "username": None,
    "has_password": False,
    "cameras": [{"name": "top", "source": "strip:", "kind": "strip"}],
}


def setup(node, request) -> dict[str, Any]:
    return {"schema": "defectd.api.setup/1", "present": PRESENT, "found": [], "job": None}


ROUTES = {("GET", "/setup"): setup}
