"""The guided start: `defectd init` with its questions on the page.

Everything is tried before it is written, by the same command: a trial is `defectd init --answers FILE --dry-run` as a
child. The answers, with the passwords, lie in a folder of the page that only this user can read, until they are
written or another trial begins; no password is ever in an argument, in an answer or in a log. A source is a URL, a
video device or the generated strip, never a path of a file.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from edge.web.api import change
from edge.web.api.change import UNFINISHED, applying, check_idle, configuration, digest
from edge.web.api.command import NAME
from edge.web.children import Job
from edge.web.refusal import Refusal
from edge.web.route import Page, Request, Response, Schema

SHOW_S: Final = 25.0
FIND_S: Final = 30.0
TRY_S: Final = 120.0
ANSWERS: Final = "answers.json"
_SOURCE: Final = (
    r"^((rtsps?|https?)://[^\s@${}\\\"'<>]+|/dev/video[0-9]{1,3}|/dev/v4l/by-(id|path)/[A-Za-z0-9:._+-]+"
    r"|strip:(\?[A-Za-z0-9_=&.,%+-]*)?)$"
)
_USER: Final = {"type": "string", "maxLength": 64, "pattern": r"^[^\x00-\x1f\x7f]*$"}
_PASSWORD: Final = {"type": "string", "maxLength": 200, "pattern": r"^[^\x00-\x1f\x7f]*$"}
TRY: Final[Schema] = {
    "type": "object",
    "required": ["node", "keep", "cameras", "broker"],
    "properties": {
        "node": NAME,
        "keep": {"type": "array", "maxItems": 64, "items": NAME},
        "cameras": {
            "type": "array",
            "maxItems": 16,
            "items": {
                "type": "object",
                "required": ["name", "source"],
                "properties": {
                    "name": NAME,
                    "source": {"type": "string", "maxLength": 500, "pattern": _SOURCE},
                    "user": _USER,
                    "password": _PASSWORD,
                },
            },
        },
        "broker": {
            "type": ["object", "null"],
            "required": ["address"],
            "properties": {
                "address": {"type": "string", "pattern": r"^(embedded|mqtts?://[A-Za-z0-9.:\[\]_-]{1,253})$"},
                "username": {**_USER, "type": ["string", "null"]},
                "password": {**_PASSWORD, "type": ["string", "null"]},
                "keeps_password": {"type": "boolean"},
                "allow_plaintext": {"type": "boolean"},
            },
        },
    },
}
APPLY: Final[Schema] = applying("although_it_fails")


async def setup(page: Page, request: Request) -> Response:
    """What is configured, and the cameras of this machine; null while a job runs."""
    busy = next((job for job in page.children.jobs if job.state in UNFINISHED), None)
    found: Mapping[str, Any] = {"present": None, "found": []}
    if busy is None:
        command = ["init", *configuration(page, "-o"), "--find", "--no-search", "--json"]
        label, by = "what is configured", request.user.name
        job = await page.children.run_to_end(command, label=label, by=by, time_s=SHOW_S, is_brief=True)
        found = job.result
    return Response.json({"schema": "defectd.api.setup/1", **found, "job": None if busy is None else busy.as_json()})


async def find(page: Page, request: Request) -> Response:
    """Look for cameras on this machine and in its networks."""
    command = ["init", *configuration(page, "-o"), "--find", "--json"]
    job = page.children.submit(command, label="look for cameras", by=request.user.name, time_s=FIND_S)
    return Response.json(job.as_json(), status=HTTPStatus.ACCEPTED)


async def attempt(page: Page, request: Request) -> Response:
    """Try cameras and broker, and show what would be written."""
    folder = _folder(page) / secrets.token_hex(8)
    out = configuration(page, "-o")
    await page.work.run(_place, folder, request.body)
    command = ["init", *out, "--answers", str(folder / ANSWERS), "--dry-run", "--json"]
    job = page.children.submit(command, label="try a set-up", by=request.user.name, time_s=TRY_S)
    return Response.json(job.as_json(), status=HTTPStatus.ACCEPTED)


async def picture(page: Page, request: Request) -> Response:
    """A camera's picture of a trial, with its tiles."""
    job = page.children.job(request.params["job"])
    name = request.params["camera"] + ".png"
    result = _result(job)
    if job is None or name not in [camera.get("picture") for camera in result.get("cameras", ())]:
        raise _gone()
    content = await page.work.run(change.picture, _answers_of(page, job).with_name(name))
    return Response(content_type="image/png", body=content)


async def apply(page: Page, request: Request) -> Response:
    """Write what a trial showed, and let the daemon take over what it can."""
    fields = request.json()
    check_idle(page, "job")
    job = page.children.job(fields["job"])
    result = _result(job)
    if job is None or "difference" not in result or job.by != request.user.name:
        raise _gone()
    if not result["works"] and not fields.get("although_it_fails"):
        raise Refusal(
            HTTPStatus.CONFLICT, "fails", "a camera or the broker does not answer", "Try again, or confirm it"
        )
    if result["before_sha256"] != fields["before_sha256"]:
        raise _stale()
    await _check_fresh(page, fields["before_sha256"])
    answers = _answers_of(page, job)
    command = ["init", *configuration(page, "-o"), "--answers", str(answers), "--json"]
    response = await _written(page, request, "setup", command)
    await page.work.run(_remove, answers.parent)
    return response


async def undo(page: Page, request: Request) -> Response:
    """Go back to the configuration before the last set-up, and let the daemon take over what it can."""
    check_idle(page, "job")
    await _check_fresh(page, request.json()["before_sha256"])
    return await _written(page, request, "setup.undo", ["init", *configuration(page, "-o"), "--undo", "--json"])


async def _written(page: Page, request: Request, action: str, command: list[str]) -> Response:
    """Run a command that writes, record who did it, and let the daemon read the file."""
    job = await page.children.run_to_end(command, label="write the set-up", by=request.user.name, time_s=SHOW_S)
    done = _result(job)
    hashes = {"before_sha256": done.get("before_sha256"), "after_sha256": done.get("after_sha256")}
    problem: str | None = None
    taken: Mapping[str, Any] | None = None
    try:
        await page.commands.acted(action, request.user, request.client, **hashes)
        taken = await page.commands.ask("reload", request.user, None, request.client)
    except Refusal as refused:
        problem = str(refused)
    answer = {"schema": "defectd.api.setup-change/1", **hashes, "taken_over": taken, "problem": problem}
    return Response.json(answer)


def _folder(page: Page) -> Path:
    return page.settings.web_dir / "setup"


def _answers_of(page: Page, job: Job) -> Path:
    """The answers of a trial: the page named their folder.  Raises Refusal."""
    if "--answers" not in job.arguments:
        raise _gone()
    place = job.arguments.index("--answers") + 1
    return _folder(page) / Path(job.arguments[place]).parent.name / ANSWERS


def _result(job: Job | None) -> Mapping[str, Any]:
    return job.result if job is not None and isinstance(job.result, dict) else {}


async def _check_fresh(page: Page, seen: str | None) -> None:
    if page.settings.config_path is None or await page.work.run(digest, page.settings.config_path) != seen:
        raise _stale()


def _stale() -> Refusal:
    remedy = "Look at what is there now, and try again"
    return Refusal(HTTPStatus.CONFLICT, "stale", "somebody has changed the configuration meanwhile", remedy)


def _gone() -> Refusal:
    return Refusal(HTTPStatus.NOT_FOUND, "gone", "this trial is no longer kept", "Try again")


# ---- files: on the thread of `work` ----------------------------------------------------------------------


def _place(folder: Path, answers: bytes) -> None:
    """Keep the answers, readable by this user alone; those of an earlier trial are deleted.  Raises Refusal."""
    for old in folder.parent.iterdir() if folder.parent.is_dir() else ():
        if re.fullmatch("[0-9a-f]{16}", old.name):
            _remove(old)
    try:
        folder.mkdir(mode=0o700, parents=True)
        handle = os.open(folder / ANSWERS, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(json.dumps(json.loads(answers)).encode())
    except OSError as error:
        raise Refusal(HTTPStatus.INSUFFICIENT_STORAGE, "disk", f"{folder}: {error.strerror or error}") from error


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
