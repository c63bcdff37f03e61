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
