"""Calibration on the fake node: the real command line in real jobs, with frames of generated strips."""

from __future__ import annotations

import asyncio
import atexit
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from edge.host.clock import SystemClock
from edge.web.api import calibration, change, jobs
from edge.web.body import parsed
from edge.web.children import Children, Job
from edge.web.refusal import Refusal
from edge.web.route import Request
from edge.web.user import User

LIVE = ["--source", "live:"]


class StripChildren(Children):
    """Runs the commands with the frames of the configured strip: there is no daemon that could give them."""

    def submit(self, arguments: Sequence[str], **options: Any) -> Job:
        words = list(arguments)
        if words[-2:] == LIVE:
            words = words[:-2]
        return super().submit(words, **options)


class Work:
    async def run(self, function, *arguments):
        return function(*arguments)


class FakeCommands:
    """Takes every command."""

    def __init__(self, node) -> None:
        self._node = node

    async def ask(self, verb, user, fields=None):
        self._node.posted.append((verb, dict(fields or {})))
        return {}


def page_of(node) -> SimpleNamespace:
    """As much of a page as the handlers use, with a state directory of its own."""
    if not hasattr(node, "calibration_page"):
        folder = Path(tempfile.mkdtemp(prefix="defectd-fake-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        cameras = [{"name": name, "source": "strip:?width=1600&height=256", "fps": 30} for name in node.cameras]
        (folder / "config.yaml").write_text(yaml.safe_dump({"node": "fake", "state_dir": "var", "cameras": cameras}))
        settings = SimpleNamespace(
            state_dir=folder / "var", web_dir=folder / "var/web", config_path=folder / "config.yaml"
        )
        children = StripChildren(SystemClock(), command=(sys.executable, "-P", "-m", "edge.cli"))
        node.calibration_page = SimpleNamespace(
            settings=settings,
            children=children,
            commands=FakeCommands(node),
            work=Work(),
            cameras=set(node.cameras),
        )
        node.calibration_task = asyncio.ensure_future(children.run())
    return node.calibration_page


def answered(handler, names: Sequence[str], schema=None):
    """A fake route that calls a handler of the page."""

    async def answer(node, request, *values: str):
        body = request.request.body
        user = User(node.user or "eva", node.role or "viewer")
        try:
            if schema is not None:
                parsed(body, schema)
            params = dict(zip(names, values, strict=True))
            found = await handler(page_of(node), Request("", params=params, body=body, user=user))
        except Refusal as refused:
            return request.refuse(refused.status.value, refused.code, str(refused), refused.remedy)
        request.set_status(found.status.value)
        if found.content_type == "application/json":
            return json.loads(found.body)
        return found.content_type, found.body

    return answer


CAMERA = r"/calibration/([^/]+)"
ROUTES = {
    ("GET", CAMERA): answered(calibration.calibration, ["camera"]),
    ("POST", f"{CAMERA}/roi"): answered(calibration.roi, ["camera"], calibration.ROI),
    ("POST", f"{CAMERA}/scale"): answered(calibration.scale, ["camera"], calibration.SCALE),
    ("POST", f"{CAMERA}/flatfield"): answered(calibration.flatfield, ["camera"], calibration.FLATFIELD),
    ("POST", f"{CAMERA}/normal"): answered(calibration.normal, ["camera"], calibration.NORMAL),
    ("POST", f"{CAMERA}/thresholds"): answered(calibration.thresholds, ["camera"], calibration.THRESHOLDS),
    ("POST", f"{CAMERA}/classes"): answered(calibration.classes, ["camera"], calibration.CLASSES),
    ("POST", f"{CAMERA}/latency"): answered(calibration.latency, ["camera"], calibration.LATENCY),
    ("POST", f"{CAMERA}/apply"): answered(calibration.apply, ["camera"], calibration.APPLY),
    ("POST", f"{CAMERA}/undo"): answered(calibration.undo, ["camera"], change.UNDO),
    ("GET", r"/calibration/plates/([^/]+)/([^/]+)\.png"): answered(calibration.plate, ["job", "plate"]),
    ("GET", r"/jobs/([^/]+)"): answered(jobs.job, ["job"]),
    ("POST", r"/jobs/([^/]+)/cancel"): answered(jobs.cancel, ["job"]),
}
