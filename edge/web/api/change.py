"""What changes of a file through the page share: they wait for nothing, and name the file that was seen by its hash."""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from pathlib import Path
from typing import Final

from edge.web.refusal import Refusal
from edge.web.route import Page, Schema

UNFINISHED: Final = ("waiting", "running")
"""States of a job."""
SHA256: Final[Schema] = {"type": ["string", "null"], "pattern": "^[0-9a-f]{64}$"}
UNDO: Final[Schema] = {"type": "object", "required": ["before_sha256"], "properties": {"before_sha256": SHA256}}
MAX_PICTURE_BYTES: Final = 16 << 20


def applying(consent: str) -> Schema:
    """The body that applies what a job showed.  consent: a field by which a person overrules what speaks against it."""
    return {
        "type": "object",
        "required": ["job", "before_sha256"],
        "properties": {
            "job": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
            "before_sha256": SHA256,
            consent: {"type": "boolean"},
        },
    }


def configuration(page: Page, option: str) -> list[str]:
    """The option of a command that names the configuration of this node.  Raises Refusal."""
    if page.settings.config_path is None:
        raise Refusal(HTTPStatus.CONFLICT, "unsupported", "this node was started without a configuration file")
    return [option, str(page.settings.config_path)]


def check_idle(page: Page, what: str) -> None:
    """A change waits for nothing: it would be of another state by then.  what: may run.  Raises Refusal."""
    if any(job.state in UNFINISHED and not job.is_brief for job in page.children.jobs):
        raise Refusal(HTTPStatus.CONFLICT, "busy", f"another {what} runs", "Wait until it has ended, or cancel it")


def digest(path: Path) -> str | None:
    """The SHA-256 of a file in hex, None where it does not exist.  On the thread of `work`.  Raises OSError."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def picture(path: Path) -> bytes:
    """A picture that a job left behind.  On the thread of `work`.  Raises Refusal."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_PICTURE_BYTES + 1)
    except OSError:
        raise Refusal(HTTPStatus.NOT_FOUND, "gone", "this picture is no longer kept", "Make it again") from None
    if len(content) > MAX_PICTURE_BYTES:
        raise Refusal(HTTPStatus.NOT_FOUND, "gone", "this picture is too large to be shown")
    return content
