"""Models: the card of one, which ones are installed, and a new one from a file."""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from edge.web.bundle_card import card_of
from edge.web.refusal import Refusal, bad_value
from edge.web.route import Page, Request, Response

log = logging.getLogger(__name__)

WAIT_S: Final = 2.0
INSTALL_S: Final = 120.0
MAX_UPLOAD_BYTES: Final = 2 << 20
"""Of a zip: a student and its int8 variant have 0.7 MiB."""
ZIP: Final = "application/zip"
ZIP_START: Final = b"PK\x03\x04"
_UPLOAD: Final = re.compile(r"[0-9a-f]{16}\.zip")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


async def model(page: Page, request: Request) -> Response:
    """The card of the model that decides, or of the installed one with that digest; and all that are installed."""
    digest = request.text("digest", max_length=64)
    if digest is not None and not _DIGEST.fullmatch(digest):
        raise bad_value("digest has 64 hexadecimal digits")
    state = await page.feed.state(WAIT_S)
    active = None if state is None else state[2].get("model")
    wanted = digest or (active or {}).get("bundle")
    settings = page.settings
    card = await page.work.run(card_of, settings.state_dir, settings.bundle, str(wanted)) if wanted else None
    return Response.json(
        {"schema": "defectd.api.model/1", "digest": wanted, "card": card, "rollout": await _rollout(page, request)}
    )


async def install(page: Page, request: Request) -> Response:
    """Check a bundle and keep it on the node; it decides nothing before `model use`."""
    if page.settings.config_path is None:
        raise Refusal(HTTPStatus.CONFLICT, "unsupported", "this node was started without a configuration file")
    if not request.body.startswith(ZIP_START):
        raise bad_value("this file is no zip")
    path = await page.work.run(_stored, page.settings.web_dir / "uploads", request.body)
    command = ("model", "install", str(path), "-c", str(page.settings.config_path), "--json", "--no-use")
    try:
        job = await page.children.run_to_end(command, label="Check of a model", by=request.user.name, time_s=INSTALL_S)
    except Refusal as refused:
        reason = str(refused).removeprefix("defectd: ").replace(str(path), "the file")
        raise Refusal(refused.status, refused.code, reason, refused.remedy) from None
    finally:
        with suppress(OSError):
            path.unlink()
    found = job.result if isinstance(job.result, dict) else {}
    digest = str(found.get("digest", ""))
    card = await page.work.run(card_of, page.settings.state_dir, page.settings.bundle, digest) or {}
    problem = None
    try:
        await page.commands.acted("model.install", request.user, request.client, after_sha256=digest)
    except Refusal as refused:
        problem = f"it is not recorded who installed it: {refused}"
        log.warning("model %s was installed by %s: %s", digest[:12], request.user.name or "visitor", problem)
    return Response.json(
        {
            "schema": "defectd.api.model-install/1",
            "digest": digest,
            "name": card.get("name"),
            "version": card.get("version"),
            "problem": problem,
        }
    )


async def _rollout(page: Page, request: Request) -> Mapping[str, Any] | None:
    """What the daemon has installed, uses and has rolled back; None while it does not run."""
    try:
        return await page.commands.ask("model", request.user, {"action": "list"}, request.client)
    except Refusal:
        return None


def _stored(folder: Path, content: bytes) -> Path:
    """A file that nobody else can read; what an interrupted check has left is deleted.  Raises Refusal."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in folder.iterdir():
            if _UPLOAD.fullmatch(old.name):
                old.unlink(missing_ok=True)
        path = folder / f"{secrets.token_hex(8)}.zip"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
    except OSError as error:
        raise Refusal(HTTPStatus.INSUFFICIENT_STORAGE, "disk", f"it cannot be stored: {error.strerror}") from error
    return path
