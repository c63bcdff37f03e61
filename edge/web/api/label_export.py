"""Labels as class folders on the node.  Thresholds from labels are a calibration: `edge.web.api.calibration`."""

from __future__ import annotations

import re
import shutil
from http import HTTPStatus
from pathlib import Path
from typing import Final

from edge.host.clock import stamp
from edge.web.refusal import Refusal
from edge.web.route import Page, Request, Response

SCHEMA: Final = "defectd.api.labels-export/1"
MAX_EXPORTS: Final = 4
"""Folders that the page keeps; the oldest one goes first."""
EXPORT_S: Final = 300.0
_NAME: Final = re.compile(r"\d{8}T\d{9}Z")


async def export(page: Page, request: Request) -> Response:
    """Write all labelled pictures into class folders with a manifest."""
    out = await page.work.run(_new_folder, page)
    job = page.children.submit(_export(page, out), label="Export of the labels", by=request.user.name, time_s=EXPORT_S)
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
