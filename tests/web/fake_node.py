"""The made-up node behind `fake_page.py`: a strip that runs, cameras that find defects, events, evidence, a map."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

CLASSES = ["crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches"]
WIDTH_MM = 1200
SPEED_M_PER_S = 1.53
MM_PER_PX = 0.75
SIZE_PX = (1600, 256)
MAX_WAIT_S = 1.0
MAX_EVENTS = 2000
ROLL_PERIOD_M = 2.041
MAX_SHOWN = 500
STROKES = {
    "scratches": (5, 8, 60, 225, 3),
    "inclusion": (4, 6, 60, 58, 6),
    "crazing": (60, 18, 6, 88, 1),
    "rolled-in_scale": (26, 24, 4, 62, 2),
}
"""By class: how many strokes, their extent, gray and thickness."""


CANARY = {
    "version": "0.4",
    "share": 0.62,
    "left_s": 229.0,
    "canary_s": 600.0,
    "previous": {"name": "student", "version": "0.3", "sha256": "ab" * 32, "bundle": "ba" * 32},
    "cameras": {
        name: {
            "before": {"delivered": 51_200, "inspected": 51_100, "unsure": 1404, "missed": 12},
            "after": {"delivered": 11_160, "inspected": 11_158, "unsure": 251, "missed": 2},
        }
        for name in ("top", "bottom")
    },
}
SHADOW = {
    "model": {"name": "student", "version": "0.5-rc1", "sha256": "ee" * 32, "bundle": "ef" * 32},
    "share": 0.1,
    "cameras": {
        "top": {"frames": 4210, "disagreed": 61, "no_time": 12, "failed": 0,
                "otherwise": {"ok>defect": 31, "unsure>ok": 22, "class": 8}},
        "bottom": {"frames": 4188, "disagreed": 9, "no_time": 3, "failed": 0, "otherwise": {"ok>unsure": 9}},
    },
}  # fmt: skip
OTHER_EVENTS: list[tuple[str, str, dict[str, Any]]] = [
    ("coverage.gap", "top", {"cause": "overload", "frames": 14, "from_m": 402.0, "to_m": 403.1, "coil": "A4711"}),
    ("operator.acted", "node", {"who": "anna", "role": "operator", "via": "192.0.2.7", "verb": "pause",
                                "camera": "top", "before_sha256": "cd" * 32, "after_sha256": "cd" * 32,
                                "reason": "roll change"}),
    ("camera.paused", "top", {"for_s": 600, "reason": "roll change"}),
    ("camera.resumed", "top", {"seconds": 124.2}),
    ("model.changed", "node", {"from": {"name": "student", "version": "0.3", "sha256": "ab" * 32},
                               "to": {"name": "student", "version": "0.4", "sha256": "ac" * 32},
                               "canary_s": 600, "reason": "installed"}),
    ("image.bad", "bottom", {"reason": "too dark"}),
]  # fmt: skip


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class FakeNode:
    """kind: usual, empty (nothing yet), no-positions, trouble (a camera is lost), long (7 km with many defects).

    other-steel: the first camera shows steel that the model was not trained on.
    """

    def __init__(self, cameras: int = 2, kind: str = "usual", role: str | None = "engineer") -> None:
        self.kind = kind
        self.role = role
        self.user: str | None = None
        self.wants_login = False
        self.epoch = "e1"
        self.last_seq = 0
        self.posted: list[tuple[str, Any]] = []
        self._random = random.Random(7)
        self._started = time.time()
        self._silent_until = 0.0
        names = ["top", "bottom", "edge-os", "edge-ds", "top-2", "bottom-2", "tail", "head"]
        self.cameras = names[:cameras]
        self._events: deque[dict[str, Any]] = deque(maxlen=MAX_EVENTS)
        self.evidence: dict[str, bytes] = {}
        self._frames: dict[str, tuple[int, dict[str, Any], bytes]] = {}
        self._number = 300
        self._turn = 0
        self.start_m = 0.0 if kind == "empty" else 7200.0 if kind == "long" else 790.0
        self.defects: deque[dict[str, Any]] = deque(maxlen=4000)
        self._backgrounds = [_steel(seed) for seed in range(6)]
        self._counts = {"minor": 0, "major": 0, "critical": 0}
        if kind != "empty":
            self._fill_the_past()

    # ---- what happens ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Goes on for ever."""
        turn = 0
        while True:
            if not self.is_silent and self.kind != "empty":
                self.step(turn)
            turn += 1
            await asyncio.sleep(0.2)

    def step(self, turn: int) -> None:
        """A fifth of a second: a frame of each camera, now and then a defect."""
        self._number += 6
        self._turn = turn
        for index, camera in enumerate(self.cameras):
            if self.kind == "trouble" and index == 1:
                continue
            regions = []
            if (turn + 4 * index) % 15 < 3:
                regions = self._regions(camera, turn, 1 + (turn // 15 + index) % 2)
            self._frames[camera] = (self._number, *self._picture(camera, regions))
            if (turn + 4 * index) % 15 == 1:
                for region in regions:
                    self._emit_defect(camera, region)

    @property
    def position_m(self) -> float | None:
        if self.kind == "no-positions":
            return None
        return round(self.start_m + SPEED_M_PER_S * (time.time() - self._started), 2)

    @property
    def is_silent(self) -> bool:
        return time.monotonic() < self._silent_until

    def be_silent(self, seconds: float) -> None:
        self._silent_until = time.monotonic() + seconds

    def restart(self) -> None:
        self.epoch = f"e{int(self.epoch[1:]) + 1}"
        self._number = 0
        self._frames.clear()

    # ---- what is asked ---------------------------------------------------------------------------

    def events_after(self, seq: int) -> list[dict[str, Any]]:
        return [event for event in self._events if event["seq"] > seq]

    def events(self) -> list[dict[str, Any]]:
        return list(self._events)

    def frame(self, camera: str, after: str) -> tuple[dict[str, Any], bytes] | None:
        found = self._frames.get(camera)
        if found is None or self.is_silent or f"{self.epoch}.{found[0]}" == after:
            return None
        return found[1] | {"epoch": self.epoch, "age_ms": 80}, found[2]

    def state(self) -> dict[str, Any]:
        is_bad = self.kind == "trouble"
        is_empty = self.kind == "empty"
        position = None if is_empty else self.position_m
        return {
            "schema": "defectd.api.state/1",
            "node": "line3",
            "version": "0.9.0",
            "time": stamp(time.time()),
            "epoch": self.epoch,
            "since": stamp(self._started - 2000),
            "verdict": "degraded" if is_bad else "not_inspecting" if is_empty else "inspecting",
            "reasons": [
                "camera bottom delivers no picture: no signal from the device",
                "the broker is not connected: 214 events wait",
            ]
            if is_bad
            else ["camera top delivers no picture"]
            if is_empty
            else [],
            "strip": {
                "is_on": not is_empty,
                "coil": None if is_empty or self.kind == "no-positions" else "A4711",
                "position_m": position,
                "speed_m_per_s": None if position is None else SPEED_M_PER_S,
                "since": None if is_empty else stamp(self._started - 530),
                "inspected_m": None if position is None else round(position - 10.4, 1),
                "partial_m": None if position is None else 9.1,
                "missed_m": None if position is None else 1.3,
                "defects": dict(self._counts),
            },
            "cameras": [self._camera(index, camera) for index, camera in enumerate(self.cameras)],
            "delivery": {
                "connected": not is_bad,
                "queued": 214 if is_bad else 0,
                "dead_letters": 3 if is_bad else 0,
                "last_seq": self.last_seq,
            },
            "outputs": [{"name": "sparkplug", "state": "running", "restarts": 0, "last_error": None}],
            "model": {
                "name": "student",
                "version": "0.3",
                "sha256": "ab" * 32,
                "precision": "int8",
                "classes": CLASSES,
                "canary": CANARY if self.kind == "usual" else None,
                "shadow": SHADOW if self.kind in ("usual", "long") else None,
            },
            "machine": {
                "temperature_c": 58.2,
                "throttled": [],
                "clock_synced": True,
                "rss_mb": 212,
                "disk_free_mb": 9120,
            },
            "evidence": {"files": 3120, "bytes": 214 << 20, "max_bytes": 256 << 20},
            "grade": None
            if is_empty or position is None
            else {
                "coil": "A4711",
                "product": "sheet",
                "grade": "B",
                "so_far": True,
                "reasons": ["A: critical is 1 at 795.2 m, limit 0", "A: roll_marks is 1 at 769.3 m, limit 0"],
                "rules": [{"grade": "A", "rule": "critical", "holds": False, "limit": 0, "found": 1, "at_m": 795.2}],
            },
            "roll_marks": [] if is_empty or position is None else [self._roll_mark()],
        }

    def coil_map(self, from_m: float | None, to_m: float | None) -> dict[str, Any]:
        """The map of the coil that runs, as the node gives it: too many defects are given as counts only."""
        end = self.position_m or 0.0
        low, high = from_m or 0.0, to_m or end
        shown = [defect for defect in self.defects if low <= defect["from_m"] <= high]
        bins = Counter((int(defect["from_m"]), defect["surface"], defect["severity"]) for defect in shown)
        return {
            "schema": "defectd.api.coil-map/1",
            "is_whole": True,
            "id": "c1",
            "coil": "A4711",
            "started": stamp(self._started - 530),
            "ended": None,
            "from_m": low,
            "to_m": high,
            "reach_m": end,
            "m_per_s": SPEED_M_PER_S,
            "unplaced": 0,
            "defects": shown if len(shown) <= MAX_SHOWN else None,
            "bins": {
                "length_m": 1.0,
                "counts": [
                    {"from_m": place, "surface": surface, "severity": severity, "count": count}
                    for (place, surface, severity), count in sorted(bins.items())
                ],
            },
            "runs": {camera: _runs(camera, end) for camera in self.cameras},
            "width": {camera: [[end, WIDTH_MM, WIDTH_MM - 2, WIDTH_MM + 1]] for camera in self.cameras},
        }

    def trend(self) -> dict[str, Any]:
        """An hour of latency, a point a minute."""
        source = random.Random(5)
        start = time.time() // 60 * 60 - 3600
        return {
            "schema": "defectd.api.trend/1",
            "step_s": 60,
            "time": [stamp(start + 60 * minute) for minute in range(60)],
            "p50_ms": [round(2 + 0.25 * source.random(), 2) for _ in range(60)],
            "p99_ms": [round(3.7 + 0.8 * source.random() + 5.2 * (minute == 22), 2) for minute in range(60)],
            "budget_ms": 20,
        }

    # ---- inside ----------------------------------------------------------------------------------

    def _camera(self, index: int, name: str) -> dict[str, Any]:
        is_empty = self.kind == "empty"
        lost = self.kind == "trouble" and index == 1
        state = "no_signal" if is_empty or lost else "running"
        return {
            "name": name,
            "state": state,
            "since": stamp(self._started),
            "reason": "no signal from the device" if lost else None,
            "fps": 0.0 if state != "running" else 30.0,
            "p50_ms": None if is_empty else 2.1,
            "p99_ms": None if is_empty else round(4.0 - 0.2 * index, 1),
            "budget_ms": 20,
            "size_px": None if is_empty else list(SIZE_PX),
            "roi_px": None if is_empty else [[42, 0], [1566, 0], [1566, 256], [42, 256]],
            "mm_per_px": None if is_empty else MM_PER_PX,
            "surface": "bottom" if "bottom" in name else "top",
            "operator_side": "left",
            "frames": None
            if is_empty
            else {
                "ok": 23900 + (0 if lost else self._number),
                "defect": 61,
                "unsure": 3,
                "bad_image": 0,
                "late": 0,
                "dropped": 361 + self._turn if lost else 0,
            },
            "tiles": None if is_empty else {"inspected": 429000, "skipped": 2580},
            "taught": None,
            "domain": {
                "answer": "outside" if self._is_other_steel(name) else "inside",
                "distance": 1.31 if self._is_other_steel(name) else 0.87,
                "tiles": 412,
                "since": None,
            },
            "defects": sum(1 for defect in self.defects if name in defect["cameras"]),
        }

    def _is_other_steel(self, camera: str) -> bool:
        return self.kind == "other-steel" and camera == self.cameras[0]

    def _roll_mark(self) -> dict[str, Any]:
        last = self.start_m - 0.3
        return {
            "period_m": ROLL_PERIOD_M,
            "period_error_m": 0.0011,
            "across_mm": 412.0,
            "surface": "bottom",
            "from_m": round(last - 20.41, 3),
            "to_m": last,
            "members": [],
            "seen": 10,
            "places": 11,
            "uninspected": 0,
            "log10_chance": -4.0,
            "class": "pitted_surface",
            "rolls": ["F7 work roll"],
        }

    def _regions(self, camera: str, turn: int, count: int) -> list[dict[str, Any]]:
        source = random.Random(f"{camera}{turn // 15}")
        regions = []
        for place in range(count):
            name = source.choice(CLASSES)
            w, h = source.randint(60, 180), source.randint(70, 170)
            x, y = source.randint(60, 1360), source.randint(6, 250 - h)
            severity = source.choices(["minor", "major", "critical"], [7, 2, 1])[0]
            regions.append(
                {
                    "track_id": f"{camera}-{turn // 15}-{place}",
                    "class": name,
                    "confidence": round(source.uniform(0.78, 0.99), 2),
                    "anomaly": None,
                    "severity": severity,
                    "box_px": [x, y, w, h],
                    "extent_px": [x + 6, y + 6, w - 12, h - 12],
                    "length_mm": round(h * MM_PER_PX),
                }
            )
        return regions

    def _picture(self, camera: str, regions: list[dict[str, Any]]) -> tuple[dict[str, Any], bytes]:
        picture = np.roll(self._random.choice(self._backgrounds), self._random.randint(0, 1600), axis=1)
        for region in regions:
            x, y, w, h = region["extent_px"]
            _draw(picture, region["class"], x, y, w, h, random.Random(region["track_id"]))
        if self._is_other_steel(camera):
            regions = [
                {**region, "class": "unknown", "candidates": [{"class": region["class"], "confidence": 0.41}]}
                for region in regions
            ]
        jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
        description = {
            "camera": camera,
            "number": self._number,
            "time": stamp(time.time()),
            "size_px": list(SIZE_PX),
            "jpeg_px": list(SIZE_PX),
            "state": "defect" if regions else "ok",
            "regions": regions,
            "tiles": {"inspected": 18, "skipped": 0, "outside": 2},
            "roi_px": [[42, 0], [1566, 0], [1566, 256], [42, 256]],
            "position_m": self.position_m,
            "coil": "A4711",
        }
        return description, jpeg

    def _emit_defect(self, camera: str, region: dict[str, Any]) -> None:
        across = round((region["box_px"][0] + region["box_px"][2] / 2) * MM_PER_PX)
        self._add(
            camera,
            region["class"],
            region["severity"],
            self.position_m,
            across,
            region["length_mm"],
            region["confidence"],
            time.time(),
        )

    def _fill_the_past(self) -> None:
        end = self.start_m
        source = self._random
        count = 2600 if self.kind == "long" else 46
        places = sorted(source.uniform(0, end) for _ in range(count))
        marks = [
            (end - 0.3 - ROLL_PERIOD_M * turn, "bottom", "pitted_surface", 412 + source.uniform(-4, 4))
            for turn in range(10)
            if turn != 6
        ]
        rows = [
            (place, source.choice(self.cameras[:2]), source.choice(CLASSES), source.uniform(20, 1180))
            for place in places
        ]
        for place, camera, name, across in sorted(rows + marks):
            severity = source.choices(["minor", "major", "critical"], [40, 4, 1])[0]
            when = self._started - (end - place) / SPEED_M_PER_S
            self._add(
                camera,
                name,
                severity,
                None if self.kind == "no-positions" else round(place, 2),
                round(across),
                source.randint(20, 70),
                0.9,
                when,
            )

    def _add(
        self,
        camera: str,
        name: str,
        severity: str,
        place: float | None,
        across: float,
        length: float,
        confidence: float,
        when: float,
    ) -> None:
        if self.last_seq % 9 == 4:
            self._add_other(OTHER_EVENTS[self.last_seq // 9 % len(OTHER_EVENTS)], when - 2)
        self.last_seq += 1
        seq = self.last_seq
        self._counts[severity] += 1
        path = f"defect/{seq:06d}-{camera}-abcd.jpg"
        self.evidence[path] = _tile(name, seq)
        if len(self.evidence) > 400:
            self.evidence.pop(next(iter(self.evidence)))
        if place is not None:
            self.defects.append(
                {
                    "seqs": [seq],
                    "cameras": [camera],
                    "track_id": f"t{seq}",
                    "is_open": False,
                    "time": stamp(when),
                    "surface": camera,
                    "class": name,
                    "severity": severity,
                    "confidence": confidence,
                    "from_m": place,
                    "to_m": place + length / 1000,
                    "across_mm": [across - 20, across + 20],
                    "length_mm": length,
                    "evidence": {"path": path},
                }
            )
        self._events.append(
            {
                "schema": "defectd.event/1",
                "event_id": f"0190e2a0-0000-7000-8000-{seq:012d}",
                "seq": seq,
                "node": "line3",
                "camera": camera,
                "type": "defect.opened",
                "time": stamp(when),
                "monotonic_ns": int(when * 1e9),
                "boot_id": "b",
                "clock_synced": True,
                "replayed": False,
                "defect": {
                    "track_id": f"t{seq}",
                    "class": name,
                    "confidence": confidence,
                    "anomaly": None,
                    "severity": severity,
                    "box_px": [600, 60, 128, 128],
                    "extent_px": [610, 70, 80, 90],
                    "box_mm": None if place is None else [across - 30, 0, 60, length],
                    "across_mm": None if place is None else [across - 20, across + 20],
                    "position_m": place,
                    "length_mm": length,
                    "coil": "A4711",
                    "frames": 3,
                    "tiles": 2,
                    "duration_s": 0.1,
                },
                "frame": {"number": self._number, "label": ""},
                "latency_ms": {"queue": 0.2, "preprocess": 0.4, "inference": 1.6, "decide": 0.2, "total": 2.4},
                "model": {"name": "student", "version": "0.3", "sha256": "ab" * 32},
                "config_sha256": "cd" * 32,
                "evidence": {"path": path, "sha256": "ef" * 32},
                "detail": None,
            }
        )

    def _add_other(self, other: tuple[str, str, dict[str, Any]], when: float) -> None:
        """An event that is no defect."""
        kind, camera, detail = other
        self.last_seq += 1
        self._events.append(
            {
                "schema": "defectd.event/1",
                "event_id": f"0190e2a0-0000-7000-8000-{self.last_seq:012d}",
                "seq": self.last_seq,
                "node": "line3",
                "camera": camera,
                "type": kind,
                "time": stamp(when),
                "monotonic_ns": int(when * 1e9),
                "boot_id": "b",
                "clock_synced": True,
                "replayed": False,
                "defect": None,
                "frame": None,
                "latency_ms": None,
                "model": {"name": "student", "version": "0.3", "sha256": "ab" * 32},
                "config_sha256": "cd" * 32,
                "evidence": None,
                "detail": detail,
            }
        )


def _runs(camera: str, end: float) -> list[list[Any]]:
    """Holes that a camera left, and the whole runs between them."""
    holes: list[tuple[float, float, str, str]] = [(402.0, 403.0, "missed", "bad_image")]
    if camera == "top":
        holes += [(784.2, 785.1, "partial", "overload")]
    else:
        holes += [(777.3, 778.3, "missed", "no_signal"), (781.2, 786.6, "partial", "overload")]
    runs: list[list[Any]] = []
    at = 0.0
    for start, stop, kind, cause in holes:
        runs += [[at, start, "whole", None], [start, stop, kind, cause]]
        at = stop
    return [*runs, [at, end, "whole", None]]


@lru_cache(maxsize=16)
def _steel(seed: int) -> np.ndarray:
    """Rolled steel: streaks along the strip."""
    noise = np.random.default_rng(seed)
    streaks = np.repeat(noise.normal(0, 6, (1, 1600)), 256, axis=0)
    fine = cv2.GaussianBlur(noise.normal(0, 20, (256, 1600)), (1, 21), 0)
    return np.clip(118 + cv2.GaussianBlur(streaks, (3, 1), 0) + fine, 0, 255).astype(np.uint8)


def _draw(picture: np.ndarray, name: str, x: int, y: int, w: int, h: int, source: random.Random) -> None:
    """Something like a defect of the class."""
    middle, half = (x + w // 2, y + h // 2), (w // 2, h // 2)
    if name in {"patches", "pitted_surface"}:
        cv2.ellipse(picture, middle, half, 0, 0, 360, 178 if name == "patches" else 158, -1)
    if name == "pitted_surface":
        for _ in range(50):
            at = x + source.randint(w // 5, w - w // 5), y + source.randint(h // 5, h - h // 5)
            cv2.circle(picture, at, source.randint(1, 4), 70, -1)
    count, dx, dy, gray, thick = STROKES.get(name, (0, 0, 0, 0, 1))
    for _ in range(count):
        start = x + source.randint(4, max(5, w - 4 - dx)), y + source.randint(4, max(5, h - 4 - dy))
        end = start[0] + source.randint(dx // 2, dx), start[1] + source.randint(dy // 2, dy)
        cv2.line(picture, start, end, gray, thick)
    picture[y : y + h, x : x + w] = cv2.GaussianBlur(picture[y : y + h, x : x + w], (3, 3), 0)


def _tile(name: str, seed: int) -> bytes:
    """Evidence: 128 x 128 pixels."""
    picture = _steel(seed % 5)[64:192, 200:328].copy()
    _draw(picture, name, 24, 16, 80, 96, random.Random(seed))
    return cv2.imencode(".jpg", picture)[1].tobytes()
