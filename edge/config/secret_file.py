"""Files that hold one secret: how they are read, and the command that makes one."""

from __future__ import annotations

import shlex
from pathlib import Path


def text_of(content: str) -> str:
    """The secret in a file: everything but the line ends around it.  Blanks may belong to a password."""
    return content.strip("\r\n")


def remedy_for(path: Path) -> str:
    """How to make a file that only its owner can read, without the secret in the history of the shell."""
    where = shlex.quote(str(path))
    return f"Make it with `install -m 600 /dev/stdin {where}`, then type the secret, Enter and Ctrl-D"
