"""What is made of the labels: class folders, and calibrations of a camera from them.

Each is a `defectd` command in a child process. The labels are first exported into a folder of their own, which stays
for a while: a calibration names it as its source.
"""

from __future__ import annotations

import re
import shutil
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from edge.host.clock import stamp
from edge.web.refusal import Refusal
from edge.web.route import Page, Request, Response

SCHEMA: Final = "defectd.api.labels-use/1"
MAX_EXPORTS: Final = 4
"""Folders that the page keeps; the oldest one goes first."""
EXPORT_S: Final = 300.0
MIN_FOR_THRESHOLDS: Final = 10
"""Labels of a class; `defectd calibrate thresholds` needs as many."""
_NAME: Final = re.compile(r"\d{8}T\d{9}Z")

TRIAL: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["camera"],
    "additionalProperties": False,
    "properties": {
        "camera": {"type": "string", "minLength": 1, "maxLength": 63},
        "dry_run": {"type": "boolean"},
    },
}
"""Body of a calibration from labels.  dry_run: write nothing; true without it."""


async def export(page: Page, request: Request) -> Response:
    """Write all labelled pictures into class folders with a manifest."""
    out = await page.work.run(_new_folder, page)
    job = page.children.submit(_export(page, out), label="Export of the labels", by=request.user.name, time_s=EXPORT_S)
    return Response.json({"schema": SCHEMA, "job": job.as_json(), "folder": str(out)}, status=HTTPStatus.ACCEPTED)


async def thresholds(page: Page, request: Request) -> Response:
    """Set thresholds of a camera from its labels.  The daemon uses them after a reload."""
    body = request.json()
    camera, dry_run = body["camera"], body.get("dry_run", True)
    if camera not in page.cameras:
        raise Refusal(HTTPStatus.NOT_FOUND, "unknown_camera", "this node has no such camera")
    out = await page.work.run(_new_folder, page)
    minimum = ("--camera", camera, "--min-pictures", str(MIN_FOR_THRESHOLDS))
    await page.children.run_to_end(
        (*_export(page, out), *minimum), label="Export of the labels", by=request.user.name, time_s=EXPORT_S
    )
    arguments = ["calibrate", "thresholds", "--config", _config(page), "--camera", camera, "--labelled", str(out)]
    job = page.children.submit(
        [*arguments, "--json", *(["--dry-run"] if dry_run else [])],
        label=f"Thresholds of {camera} from labels" + (", trial" if dry_run else ""),
        by=request.user.name,
    )
    return Response.json({"schema": SCHEMA, "job": job.as_json(), "folder": str(out)}, status=HTTPStatus.ACCEPTED)


def _export(page: Page, out: Path) -> tuple[str, ...]:
    return ("evidence", "export", "--config", _config(page), "--labelled", "--out", str(out))


def _config(page: Page) -> str:
    if page.settings.config_path is None:
        raise Refusal(
            HTTPStatus.CONFLICT,
            "no_config",
            "this node runs without a configuration file",
            "Start it with `defectd run -c FILE`",
        )
    return str(page.settings.config_path)


def _new_folder(page: Page) -> Path:
    """A path for the next export; the oldest ones are deleted."""
    parent = page.settings.labels / "exports"
    try:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = sorted(path for path in parent.iterdir() if _NAME.fullmatch(path.name))
        for path in known[: max(0, len(known) - MAX_EXPORTS + 1)]:
            shutil.rmtree(path)
    except OSError as error:
        raise Refusal(HTTPStatus.INSUFFICIENT_STORAGE, "disk", f"{parent}: {error.strerror or error}") from error
    return parent / re.sub("[-:.]", "", stamp(page.clock.wall_ns()))
