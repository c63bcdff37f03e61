"""Links that open the page with the rights of an engineer, for who can read the state directory: once, for 10 minutes.

Who can read the state directory owns the node already; a link spares that person a user and a password. The folder
`state_dir/web/links` holds the hash of each open link, and whoever removes the file has used it.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from pathlib import Path
from typing import Final

from edge.host import atomic_files
from edge.host.clock import NS_PER_S
from edge.web.users_file import prepare_folder

VALID_S: Final = 600
MAX_OPEN: Final = 20
TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")
LINKS: Final = "links"


def create(web_dir: Path, wall_ns: int) -> str:
    """The token of a new link.  Raises OSError."""
    folder = web_dir / LINKS
    prepare_folder(web_dir)
    prepare_folder(folder)
    _remove_old(folder, wall_ns)
    token = secrets.token_urlsafe(32)
    expires_ns = wall_ns + VALID_S * NS_PER_S
    atomic_files.replace(folder / _name(token), str(expires_ns).encode(), owner=folder.stat())
    return token


def take(web_dir: Path, token: str, wall_ns: int) -> bool:
    """Use a link up.  False when it is unknown, used, or too old."""
    if not TOKEN.fullmatch(token):
        return False
    path = web_dir / LINKS / _name(token)
    try:
        expires_ns = int(path.read_bytes()[:32])
        path.unlink()  # of two requests at the same time only one removes it
    except (OSError, ValueError):
        return False
    return wall_ns <= expires_ns <= wall_ns + VALID_S * NS_PER_S


def _name(token: str) -> str:
    return hashlib.sha256(token.encode("ascii")).hexdigest()


def _remove_old(folder: Path, wall_ns: int) -> None:
    """Remove what has expired, and the oldest above a number."""
    found = []
    for path in folder.iterdir():
        try:
            found.append((int(path.read_bytes()[:32]), path))
        except (OSError, ValueError):
            path.unlink(missing_ok=True)
    found.sort(reverse=True)
    for at, (expires_ns, path) in enumerate(found):
        if expires_ns < wall_ns or at >= MAX_OPEN - 1:
            path.unlink(missing_ok=True)
