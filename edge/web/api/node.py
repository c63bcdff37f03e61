"""The node itself: what its doctor finds, what its files take, who uses the page, its log, a support bundle."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from edge.host import regular_file
from edge.web.children import Job
from edge.web.log_lines import LEVELS
from edge.web.refusal import Refusal
from edge.web.route import Page, Request, Response

DOCTOR_S: Final = 120.0
DOCTOR_ENDS: Final = (0, 1)
"""Exit codes of a doctor that came to its end; 1: it found a fault."""
BUNDLE_S: Final = 180.0
MAX_BUNDLE_BYTES: Final = 20 << 20
"""More than `defectd support-bundle` packs before it compresses."""
MAX_FILES: Final = 20_000
"""Of one folder; the size of a folder with more is unknown."""
KINDS: Final = ("outbox", "coils", "labels", "models")
_BUNDLE: Final = re.compile(r"[0-9a-f]{16}\.tar\.gz")


async def node(page: Page, request: Request) -> Response:
    """The doctor's last findings, sizes of folders, and for operators who uses the page."""
    found = _newest(page, "doctor")
    if found is None and page.settings.config_path is not None:
        with suppress(Refusal):  # others wait: the next request asks again
            found = _examine(page, "")
    sizes = await page.work.run(_sizes, page)
    return Response.json(
        {
            "schema": "defectd.api.node/1",
            "doctor": _doctor(found),
            "storage": sizes,
            "users": page.access.people() if request.user.may("operator") else None,
        }
    )


async def examine(page: Page, request: Request) -> Response:
    """Let the doctor examine the node again; one that runs already is enough."""
    _config(page)
    found = _newest(page, "doctor")
    if found is None or found.has_ended.is_set():
        found = _examine(page, request.user.name)
    return Response.json(found.as_json(), status=HTTPStatus.ACCEPTED)


async def logs(page: Page, request: Request) -> Response:
    """The newest lines of the daemon's log."""
    after = request.whole("after", low=0, high=1 << 53) or 0
    level = request.choice("level", LEVELS) or "info"
    kept = page.feed.logs
    # A page that was started anew counts its lines from 1: who names a later one starts again.
    found = kept.after(after if after <= kept.last else 0, level)
    return Response.json({"schema": "defectd.api.logs/1", "lines": found, "last": kept.last})


async def support_bundle(page: Page, request: Request) -> Response:
    """Pack what a supporter needs; the job names it."""
    config = _config(page)
    path = await page.work.run(_place_for_bundle, page)
    command = ("support-bundle", *config, "-o", str(path))
    job = page.children.submit(command, label="Support bundle", by=request.user.name, time_s=BUNDLE_S)
    with suppress(Refusal):  # a bundle is wanted most when the daemon does not run
        await page.commands.acted("support-bundle", request.user, request.client)
    return Response.json(job.as_json(), status=HTTPStatus.ACCEPTED)


async def bundle(page: Page, request: Request) -> Response:
    """Download the bundle of a job, once: then it is deleted."""
    job = page.children.job(request.params["job"])
    if job is None or job.arguments[0] != "support-bundle" or job.state != "done":
        raise _gone()
    try:
        data = await page.work.run(_taken, _folder(page) / Path(job.arguments[-1]).name)
    except OSError:
        raise _gone() from None
    name = f"defectd-support-{page.settings.node}-{(job.ended or '')[:19].replace(':', '')}Z.tar.gz"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content_type="application/gzip", body=data, headers=headers)


def _examine(page: Page, by: str) -> Job:
    """Cameras are in use by the daemon: they are not opened.  Raises Refusal."""
    command = ("doctor", *_config(page), "--json", "--no-cameras")
    return page.children.submit(command, label="Doctor", by=by, time_s=DOCTOR_S)


def _newest(page: Page, command: str) -> Job | None:
    """The newest job of this command that still says something."""
    return next((job for job in reversed(page.children.jobs) if job.arguments[0] == command), None)


def _doctor(job: Job | None) -> dict[str, Any]:
    if job is None:
        return {"job": None, "state": "none", "examined": None, "findings": [], "reason": None}
    is_whole = job.exit_code in DOCTOR_ENDS and bool(job.results)
    state = "done" if is_whole and job.state == "failed" else job.state
    findings = [
        {"grade": one["grade"], "about": one["about"], "says": one["says"], "remedy": one.get("remedy") or None}
        for one in (job.results if state == "done" else [])
        if isinstance(one, dict) and one.keys() >= {"grade", "about", "says"}
    ]
    reason = job.reason if state in ("failed", "cancelled") else None
    return {"job": job.id, "state": state, "examined": job.ended, "findings": findings, "reason": reason}


def _config(page: Page) -> tuple[str, str]:
    """Raises Refusal."""
    if page.settings.config_path is None:
        raise Refusal(HTTPStatus.CONFLICT, "unsupported", "this node was started without a configuration file")
    return "-c", str(page.settings.config_path)


# ---- files: on the thread of `work` ----------------------------------------------------------------------


def _sizes(page: Page) -> list[dict[str, Any]]:
    settings = page.settings
    outbox = [settings.outbox, *(Path(f"{settings.outbox}{end}") for end in ("-wal", "-shm"))]
    places = (outbox, [settings.coils], [settings.labels], [settings.state_dir / "models"])
    return [{"name": name, **_size(paths)} for name, paths in zip(KINDS, places, strict=True)]


def _size(paths: Sequence[Path]) -> dict[str, int | None]:
    """Files and bytes below these paths; unknown where there are too many, or where they cannot be read."""
    files = size = 0
    waiting = list(paths)
    while waiting:
        path = waiting.pop()
        try:
            found = path.lstat()
            if path.is_dir() and not path.is_symlink():
                waiting += path.iterdir()
                continue
        except FileNotFoundError:
            continue
        except OSError:
            return {"files": None, "bytes": None}
        files, size = files + 1, size + found.st_size
        if files > MAX_FILES:
            return {"files": None, "bytes": None}
    return {"files": files, "bytes": size}


def _folder(page: Page) -> Path:
    return page.settings.web_dir / "support"


def _place_for_bundle(page: Page) -> Path:
    """A path that nobody else can read; what is left of earlier bundles is deleted."""
    folder = _folder(page)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in folder.iterdir():
            if _BUNDLE.fullmatch(old.name):
                old.unlink(missing_ok=True)
    except OSError as error:
        raise Refusal(HTTPStatus.INSUFFICIENT_STORAGE, "disk", f"{folder}: {error.strerror or error}") from error
    return folder / f"{secrets.token_hex(8)}.tar.gz"


def _taken(path: Path) -> bytes:
    """The file, which is deleted.  Raises OSError."""
    data = regular_file.read(path, MAX_BUNDLE_BYTES)
    path.unlink()
    return data


def _gone() -> Refusal:
    return Refusal(HTTPStatus.NOT_FOUND, "gone", "there is no such bundle, or not any more", "Make a new one")
