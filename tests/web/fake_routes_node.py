"""The answers of the fake node about itself: doctor, files, people, log, dead letters, a support bundle."""

from __future__ import annotations

import time
from typing import Any

from fake_node import stamp

FINDINGS = [
    ("fail", "broker", "refused the login: not authorized (0x87)", "Give mqtt.username and mqtt.password_file."),
    ("warning", "clock", "is not synchronised", "Install chrony, or systemd-timesyncd: systemctl enable --now chrony"),
    ("warning", "camera top", "has no scale", "defectd calibrate scale --camera top --known-mm 500"),
    ("ok", "model", "student 0.3, int8, 2.1 ms for 18 tiles", ""),
    ("ok", "disk", "9.1 GB free, events sync in 4 ms", ""),
    ("ok", "memory", "212 MiB of 3.7 GiB", ""),
    ("ok", "certificates", "the broker's is valid for 311 days", ""),
]
LINES = [
    ("info", "edge.daemon", "defectd 0.3 inspects 2 cameras"),
    ("info", "edge.delivery.mqtt.connection", "connected to the broker, protocol 5"),
    ("warning", "edge.camera.supervised_camera", "camera bottom: no signal for 2.1 s, opened again"),
    ("info", "edge.control.model_rollout", "model student 0.4 decides, as a canary for 600 s"),
    ("error", "edge.delivery.mqtt.publisher", "the broker refused seq 39: not authorized (0x87)"),
]


def job(node: Any, name: str, seconds: float = 2.0) -> dict[str, Any]:
    """A job that takes some seconds."""
    kept = node.__dict__.setdefault("jobs", {})
    kept[name] = time.monotonic() + seconds
    return job_now(node, None, name)


def job_now(node: Any, _request: Any, name: str) -> dict[str, Any]:
    is_done = time.monotonic() >= node.__dict__.get("jobs", {}).get(name, 0)
    return {
        "schema": "defectd.api.job/1",
        "id": name,
        "state": "done" if is_done else "running",
        "lines": [],
        "reason": None,
        "result": node.__dict__.get("results", {}).get(name),
    }


def about(node: Any, _request: Any) -> dict[str, Any]:
    is_busy = time.monotonic() < node.__dict__.get("jobs", {}).get("doctor", 0)
    names = ("grade", "about", "says", "remedy")
    return {
        "schema": "defectd.api.node/1",
        "doctor": {
            "job": "doctor",
            "state": "running" if is_busy else "done",
            "examined": stamp(node._started),
            "findings": [] if is_busy else [dict(zip(names, one, strict=True)) for one in FINDINGS],
            "reason": None,
        },
        "storage": [
            {"name": "outbox", "files": 3, "bytes": 18 << 20},
            {"name": "coils", "files": 412, "bytes": 96 << 20},
            {"name": "labels", "files": 1204, "bytes": 22 << 20},
            {"name": "models", "files": 12, "bytes": 4 << 20},
        ],
        "users": [
            {"name": "edda", "role": "engineer", "is_user": True, "sessions": 1, "last_used": stamp(time.time())},
            {"name": "anna", "role": "operator", "is_user": True, "sessions": 0, "last_used": None},
            {"name": "wall", "role": "viewer", "is_user": True, "sessions": 1, "last_used": stamp(time.time() - 4)},
            {"name": "local", "role": "engineer", "is_user": False, "sessions": 1, "last_used": stamp(time.time())},
        ]
        if node.role != "viewer"
        else None,
    }


def logs(node: Any, request: Any) -> dict[str, Any]:
    after, level = int(request.get_query_argument("after", "0")), request.get_query_argument("level", "info")
    lowest = ["info", "warning", "error"].index(level)
    now = 40 + int(time.time() - node._started) // 5
    shown = [
        {"line": line, "time": stamp(node._started + 5 * (line - 40)), "level": kind, "logger": name, "thread": "main",
         "message": text}
        for line in range(1, now)
        for kind, name, text in [LINES[line % len(LINES)]]
        if line > after and ["info", "warning", "error"].index(kind) >= lowest
    ]  # fmt: skip
    return {"schema": "defectd.api.logs/1", "lines": shown, "last": now - 1}


ROUTES = {
    ("GET", "/node"): about,
    ("POST", "/node/doctor"): lambda node, _: job(node, "doctor"),
    ("GET", "/node/logs"): logs,
    ("POST", "/node/support-bundle"): lambda node, _: job(node, "support-bundle"),
    ("GET", "/node/support-bundle/(.+).tar.gz"): lambda *_: ("application/gzip", b"bundle"),
    ("GET", "/jobs/(doctor|support-bundle|install)"): job_now,
}
