"""Labels and evidence of the fake node: the real handlers over an archive of made-up pictures."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import fake_node

from edge.evidence.archive import Archive
from edge.host.clock import SystemClock
from edge.web.api import evidence, labels
from edge.web.labelling import Labelling
from edge.web.refusal import Refusal
from edge.web.route import Request
from edge.web.user import User

TILE_PX = 128
_PLACE = tempfile.TemporaryDirectory(prefix="fake-labels-")


class OwnThread:
    """Runs what blocks in a thread of its own, as the page's work thread does."""

    async def run(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(function, *args, **kwargs)


class Recorded:
    """The daemon's command socket: takes everything."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, User, Any]] = []

    async def ask(self, verb: str, user: User, fields: Any = None) -> dict[str, Any]:
        self.asked.append((verb, user, fields))
        return {}


class StateOf:
    """The feed: the fake node's state."""

    def __init__(self, node: Any) -> None:
        self._node = node

    async def state(self, _timeout_s: float, _after_ns: int = 0) -> Any:
        state = self._node.state()
        for camera in state["cameras"]:
            camera["thresholds"] = {"confidence": 0.6, "unsure": 0.35, "classes": {}}
            camera["calibrated_thresholds"] = None
        state["model"]["bundle"] = "b" * 64
        return 0, b"", state


def page_of(node: Any, folder: Path) -> Any:
    """A page over this folder."""
    settings = SimpleNamespace(evidence=folder / "evidence", labels=folder / "labels", classes=tuple(fake_node.CLASSES))
    clock = SystemClock()
    return SimpleNamespace(
        settings=settings,
        clock=clock,
        feed=StateOf(node),
        labelling=Labelling(settings, clock),
        work=OwnThread(),
        commands=Recorded(),
    )


def fill(folder: Path, *, unsure: int = 26, audit: int = 12, defects: int = 60, shadow: int = 14) -> None:
    """An archive with pictures of all kinds over the last three hours."""
    source, archive = random.Random(4), Archive(folder, max_bytes=1 << 28, min_free_bytes=0)
    archive.open()
    kinds = ["unsure"] * unsure + ["audit"] * audit + ["defect"] * defects
    source.shuffle(kinds)
    kinds += ["shadow"] * shadow
    for place, kind in enumerate(kinds):
        name = source.choice(fake_node.CLASSES)
        is_good = kind == "audit" and source.random() < 0.8
        jpeg = cv2.imencode(".jpg", fake_node._steel(place % 5)[64:192, 200:328])[1].tobytes() if is_good else None
        others = [other for other in fake_node.CLASSES if other != name]
        top = source.uniform(0.36, 0.59) if kind == "unsure" else source.uniform(0.02, 0.3) if is_good else 0.93
        second = source.uniform(0.1, min(top, 1 - top)) if kind == "unsure" else 0.02
        x = source.randrange(12) * TILE_PX
        facts: dict[str, Any] = {
            "label": {"unsure": "unsure"}.get(kind, "good" if is_good else name),
            "time": fake_node.stamp(time.time() - 11_000 + 110 * place),
            "frame_px": [1600, 256],
            "crop_px": [x, 64 * source.randrange(3), TILE_PX, TILE_PX],
            "model": "b" * 64,
            "coil": "A4711",
            "position_m": round(200 + 6.1 * place, 2),
        }
        if kind == "defect":
            facts |= {"confidence": round(source.uniform(0.6, 0.99), 4)}
            facts |= {"track_id": f"t{place}", "event_id": f"e{place}"}
            facts |= {"box_in_picture": [0.17, 0.1, 0.64, 0.78], "peak_px": facts["crop_px"]}
        else:
            facts["scores"] = {name: round(top, 4), others[0]: round(second, 4), others[1]: round(second / 3, 4)}
        if kind == "shadow":
            other = source.choice([*fake_node.CLASSES, "good", "unsure"])
            said = {"name": "student", "version": "0.5-rc1", "label": other, "scores": {other: 0.81}}
            facts |= {"shadow": said}
        archive.add(kind, source.choice(["top", "bottom"]), jpeg or fake_node._tile(name, place), facts)
    archive.close()


_pages: dict[int, Any] = {}


def _page(node: Any) -> Any:
    if id(node) not in _pages:
        folder = Path(_PLACE.name) / str(len(_pages))
        if node.kind == "empty":
            (folder / "evidence").mkdir(parents=True)
        else:
            fill(folder / "evidence")
        _pages[id(node)] = page_of(node, folder)
    return _pages[id(node)]


def real(handler: Any, *names: str) -> Any:
    """The handler of the page process, called with the fake node's request."""

    async def answer(node: Any, request: Any, *params: str) -> Any:
        asked = request.request
        query = {name: [value.decode() for value in values] for name, values in asked.query_arguments.items()}
        body, user = asked.body or b"", User(node.user or "demo", node.role or "viewer")
        made = Request(asked.path, asked.method, dict(zip(names, params, strict=True)), query, body=body, user=user)
        try:
            response = await handler(_page(node), made)
        except Refusal as refused:
            return request.refuse(refused.status.value, refused.code, str(refused), refused.remedy or None)
        for name, value in response.headers.items():
            request.set_header(name, value)
        return response.content_type, response.body

    return answer


async def picture(node: Any, request: Any, path: str) -> Any:
    """Pictures of events are those of the fake node; the others those of the archive."""
    kind, _, name = path.partition("/")
    if path in node.evidence:
        return "image/jpeg", node.evidence[path]
    return await real(evidence.picture, "kind", "name")(node, request, kind, name.removesuffix(".jpg"))


async def export(node: Any, request: Any) -> dict[str, Any]:
    """A job that has ended at once."""
    return {"job": {"id": "export", "state": "done", "lines": []}, "folder": "/var/lib/defectd/labels/exports/1"}


ROUTES = {
    ("GET", "/evidence"): real(evidence.pictures),
    ("GET", "/evidence/(.+)"): picture,
    ("GET", "/labels/next"): real(labels.following),
    ("GET", "/labels"): real(labels.recent),
    ("GET", "/labels/worth"): real(labels.value),
    ("POST", "/labels"): real(labels.give),
    ("POST", "/labels/undo"): real(labels.undo),
    ("POST", "/labels/export"): export,
}
