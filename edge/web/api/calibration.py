"""Calibration with the mouse: every preview is a dry run of the command line, and what is applied is what it showed.

A preview runs `defectd calibrate KIND --dry-run` as a child, with frames of the running daemon; its plates and the file
that it would write lie in a folder of the page until they are applied or forgotten. The page gives a command no path
and no option of its own: names are checked, numbers are numbers, and folders have names that the page invents.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from edge.web.api.change import UNFINISHED, applying, check_idle, configuration, digest, picture
from edge.web.children import Job
from edge.web.refusal import Refusal, bad_value
from edge.web.route import Page, Request, Response, Schema

SHOW_S: Final = 25.0
NORMAL_S: Final = 3600.0
MEASURE_S: Final = 900.0
_PLATE: Final = re.compile(r"[A-Za-z0-9_.-]{1,120}\.png")

_PX: Final = {"type": "integer", "minimum": 0, "maximum": 65_535}
_SHAPE: Final = {
    "type": ["array", "null"],
    "minItems": 3,
    "maxItems": 64,
    "items": {
        "type": ["integer", "array"],
        "minimum": 0,
        "maximum": 65_535,
        "items": _PX,
        "minItems": 2,
        "maxItems": 2,
    },
}
"""[x, y, w, h], or corners [x, y]."""
ROI: Final[Schema] = {
    "type": "object",
    "properties": {
        "shape": _SHAPE,
        "exclude": {"type": "array", "maxItems": 32, "items": _SHAPE},
        "keep_region": {"type": "boolean"},
        "track": {"type": "boolean"},
        "tile_px": {"type": ["integer", "null"], "minimum": 16, "maximum": 8192},
    },
}
SCALE: Final[Schema] = {
    "type": "object",
    "properties": {
        "points": {"type": "array", "minItems": 4, "maxItems": 4, "items": _PX},
        "length_mm": {"type": "number", "minimum": 0.01, "maximum": 100_000},
        "columns": {"type": "integer", "minimum": 3, "maximum": 30},
        "rows": {"type": "integer", "minimum": 3, "maximum": 30},
        "square_mm": {"type": "number", "minimum": 1, "maximum": 500},
        "frames": {"type": "integer", "minimum": 1, "maximum": 100},
    },
}
FLATFIELD: Final[Schema] = {
    "type": "object",
    "properties": {"frames": {"type": "integer", "minimum": 10, "maximum": 1000}},
}
NORMAL: Final[Schema] = {
    "type": "object",
    "properties": {
        "frames": {"type": "integer", "minimum": 50, "maximum": 100_000},
        "per_hour": {"type": "number", "minimum": 1e-6, "maximum": 100_000},
        "keep_all": {"type": "boolean"},
        "i_have_looked": {"type": "boolean"},
    },
}
THRESHOLDS: Final[Schema] = {
    "type": "object",
    "properties": {
        "recall": {"type": "number", "minimum": 0.01, "maximum": 1},
        "per_hour": {"type": "number", "minimum": 1e-6, "maximum": 1e9},
    },
}
CLASSES: Final[Schema] = {
    "type": "object",
    "properties": {"other_classes": {"enum": ["auto", "keep", "drop"]}, "take_back": {"type": "boolean"}},
}
LATENCY: Final[Schema] = {
    "type": "object",
    "properties": {"seconds": {"type": "integer", "minimum": 5, "maximum": 600}},
}
APPLY: Final[Schema] = applying("i_have_looked")


async def calibration(page: Page, request: Request) -> Response:
    """What the camera is calibrated with, and what is missing until it is ready; null while a job runs."""
    camera = _camera(page, request)
    jobs = [job for job in page.children.jobs if job.state in UNFINISHED]
    facts: Mapping[str, Any] | None = None
    if not jobs:
        command = ["calibrate", "show", *_of(page, camera), "--json"]
        job = await page.children.run_to_end(
            command, label=f"calibrations of {camera}", by=request.user.name, time_s=SHOW_S
        )
        facts = job.result
    return Response.json(
        {
            "schema": "defectd.api.calibration/1",
            "camera": camera,
            "sha256": await page.work.run(digest, _file(page, camera)),
            "calibration": facts,
            "job": jobs[0].as_json() if jobs else None,
        }
    )


async def roi(page: Page, request: Request) -> Response:
    """Preview a region, its zones and the size of its tiles; without a shape, the edges are searched."""
    fields = request.json()
    options: list[str] = []
    if fields.get("keep_region"):
        options.append("--keep-region")
        options += ["--no-exclude"] if fields.get("exclude") == [] else []
    elif fields.get("shape") is not None:
        options += ["--shape", _shape(fields["shape"])]
    elif fields.get("track"):
        options.append("--track")
    for zone in fields.get("exclude") or ():
        options += ["--exclude", _shape(zone)]
    if fields.get("tile_px") is not None:
        options += ["--tile-px", str(fields["tile_px"])]
    is_searched = not fields.get("keep_region") and fields.get("shape") is None
    return await _preview(page, request, "roi", [*options, "--frames", "20" if is_searched else "1"])


async def scale(page: Page, request: Request) -> Response:
    """Preview the scale, from a known length in the picture or from a board that is shown to the camera."""
    fields = request.json()
    if "length_mm" in fields or "points" in fields:
        if "length_mm" not in fields or "points" not in fields:
            raise bad_value("length_mm and points go together")
        ends = ",".join(map(str, fields["points"]))
        options = ["--length-mm", f"{fields['length_mm']:g}", "--points", ends]
    else:
        squares = f"{fields.get('columns', 10)}x{fields.get('rows', 7)}"
        frames = str(fields.get("frames", 15))
        options = ["--squares", squares, "--square-mm", f"{fields.get('square_mm', 20):g}", "--frames", frames]
    return await _preview(page, request, "scale", options)


async def flatfield(page: Page, request: Request) -> Response:
    """Preview the correction of uneven light."""
    return await _preview(page, request, "flatfield", ["--frames", str(request.json().get("frames", 100))])


async def normal(page: Page, request: Request) -> Response:
    """Preview the anomaly model of good surface: minutes of frames of the production line."""
    fields = request.json()
    options = ["--frames", str(fields.get("frames", 9000))]
    options += ["--false-alarms-per-hour", f"{fields.get('per_hour', 1):g}"]
    options += ["--keep-all"] if fields.get("keep_all") else []
    return await _preview(page, request, "normal", options, NORMAL_S)


async def thresholds(page: Page, request: Request) -> Response:
    """Preview temperature and thresholds, from the pictures that people labelled on the page."""
    fields = request.json()
    if "recall" in fields and "per_hour" in fields:
        raise bad_value("recall and per_hour set the same thing: give one of them")
    options = ["--labels"]
    if "per_hour" in fields:
        options += ["--false-alarms-per-hour", f"{fields['per_hour']:g}"]
    elif "recall" in fields:
        options += ["--recall", f"{fields['recall']:g}"]
    return await _preview(page, request, "thresholds", options, source=())


async def classes(page: Page, request: Request) -> Response:
    """Preview classes that the camera is taught, from the pictures that people labelled; or what follows without them.

    take_back: the classes that were taught last are taken back.
    """
    fields = request.json()
    if fields.get("take_back"):
        return await _preview(page, request, "classes", ["--undo"], source=())
    options = ["--labels", "--other-classes", fields.get("other_classes", "auto")]
    return await _preview(page, request, "classes", options, source=())


async def latency(page: Page, request: Request) -> Response:
    """Preview the fastest settings of the network, measured beside the running daemon."""
    seconds = request.json().get("seconds", 30)
    return await _preview(page, request, "latency", ["--for", f"{seconds}s", "--no-hold", "--frames", "8"])


async def apply(page: Page, request: Request) -> Response:
    """Write what a preview showed, and let the daemon use it."""
    camera, fields = _camera(page, request), request.json()
    check_idle(page, "calibration or job")
    job = page.children.job(fields["job"])
    change = None if job is None or not isinstance(job.result, dict) else job.result.get("change")
    if job is None or change is None or job.result.get("camera") != camera:
        raise Refusal(HTTPStatus.NOT_FOUND, "gone", "this preview is no longer kept", "Make it again")
    await _check_fresh(page, camera, fields["before_sha256"], str(change["file"]))
    options = ["--i-have-looked"] if fields.get("i_have_looked") else []
    folder = str(_plates_of(page, job))
    command = ["calibrate", "apply", folder, *configuration(page, "-c"), "--json", *options]
    return await _written(page, request, camera, str(change["kind"]), command)


async def undo(page: Page, request: Request) -> Response:
    """Go back to the calibration before the last change, and let the daemon use it."""
    camera = _camera(page, request)
    check_idle(page, "calibration or job")
    await _check_fresh(page, camera, request.json()["before_sha256"], f"{camera}.yaml")
    return await _written(page, request, camera, "undo", ["calibrate", "undo", *_of(page, camera), "--json"])


async def plate(page: Page, request: Request) -> Response:
    """A picture of a preview."""
    job = page.children.job(request.params["job"])
    name = request.params["plate"] + ".png"
    if job is None or not _PLATE.fullmatch(name) or name not in _plates(job):
        raise Refusal(HTTPStatus.NOT_FOUND, "gone", "there is no such plate, or its preview is no longer kept")
    content = await page.work.run(picture, _plates_of(page, job) / name)
    return Response(content_type="image/png", body=content)


async def _preview(
    page: Page,
    request: Request,
    kind: str,
    options: Sequence[str],
    time_s: float = MEASURE_S,
    source: Sequence[str] = ("--source", "live:"),
) -> Response:
    camera = _camera(page, request)
    folder = page.settings.web_dir / "previews" / secrets.token_hex(8)
    kept = {_plates_of(page, job).name for job in page.children.jobs if "--plates" in job.arguments}
    await page.work.run(_tidy, folder.parent, kept)
    shown = ["--dry-run", "--json", "--progress-json", "--plates", str(folder)]
    command = ["calibrate", kind, *_of(page, camera), *shown, *options, *source]
    job = page.children.submit(command, label=f"{kind} of {camera}", by=request.user.name, time_s=time_s)
    return Response.json(job.as_json(), status=HTTPStatus.ACCEPTED)


async def _written(page: Page, request: Request, camera: str, kind: str, command: Sequence[str]) -> Response:
    """Run a command that writes, then let the daemon read the file and record who did it."""
    label = f"{kind} of {camera}"
    job = await page.children.run_to_end(command, label=label, by=request.user.name, time_s=SHOW_S)
    done = job.result if isinstance(job.result, dict) else {}
    hashes = {"before_sha256": done.get("before_sha256"), "after_sha256": done.get("after_sha256")}
    problem: str | None = None
    acted = {"action": f"calibration.{kind}", "camera": camera, **hashes}
    try:
        await page.commands.ask("acted", request.user, acted)
        if kind != "latency":  # that file is read at the start
            await page.commands.ask("reload", request.user)
    except Refusal as refused:
        problem = str(refused)
    answer = {"schema": "defectd.api.calibration-change/1", "camera": camera, "kind": kind, **hashes}
    return Response.json({**answer, "problem": problem})


def _camera(page: Page, request: Request) -> str:
    """Raises Refusal for a camera that this node does not have."""
    camera = request.params["camera"]
    if camera not in page.cameras:
        raise Refusal(HTTPStatus.NOT_FOUND, "unknown_camera", "this node has no such camera")
    return camera


def _of(page: Page, camera: str) -> list[str]:
    return [*configuration(page, "-c"), "--camera", camera]


def _file(page: Page, camera: str) -> Path:
    """As `edge.config.state_dir`, which this process does not import."""
    return page.settings.state_dir / "calibration" / f"{camera}.yaml"


async def _check_fresh(page: Page, camera: str, seen: str | None, name: str) -> None:
    path = _file(page, camera).with_name("node.yaml" if name == "node.yaml" else f"{camera}.yaml")
    if await page.work.run(digest, path) != seen:
        remedy = "Look at what is there now, and preview again"
        raise Refusal(HTTPStatus.CONFLICT, "stale", "somebody has changed this calibration meanwhile", remedy)


def _shape(value: Sequence[Any]) -> str:
    """A shape as the command line takes it.  Raises Refusal."""
    if all(isinstance(one, int) for one in value):
        if len(value) != 4:
            raise bad_value("a rectangle is [x, y, w, h]")
        return ",".join(map(str, value))
    if not all(isinstance(one, list) for one in value):
        raise bad_value("a polygon is a list of corners [x, y]")
    return " ".join(f"{x},{y}" for x, y in value)


def _plates(job: Job) -> list[str]:
    """Names of the pictures of a preview that has ended."""
    change = job.result.get("change") if isinstance(job.result, dict) else None
    names = change.get("plates") if isinstance(change, dict) else None
    return [name for name in names or () if isinstance(name, str) and _PLATE.fullmatch(name)]


def _plates_of(page: Page, job: Job) -> Path:
    """The folder of a preview: the page named it."""
    place = job.arguments.index("--plates") + 1
    return page.settings.web_dir / "previews" / Path(job.arguments[place]).name


def _tidy(folder: Path, kept: set[str]) -> None:
    """Delete the previews of jobs that are forgotten."""
    for old in folder.iterdir() if folder.is_dir() else ():
        if old.name not in kept and re.fullmatch("[0-9a-f]{16}", old.name):
            shutil.rmtree(old, ignore_errors=True)
