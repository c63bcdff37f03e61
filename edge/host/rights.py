"""What this user may see and do, and the remedy where rights are missing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

REMEDY: Final = "Run this with sudo, or as the user that defectd runs as"


def nearest(path: Path) -> Path:
    """The path, or the innermost of its folders that exists as far as this user can see."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if os.path.exists(place))  # noqa: PTH110 (Path.exists raises)


def why(error: OSError) -> str:
    """The reason of an error, and the remedy where rights are missing."""
    reason = error.strerror or str(error)
    return f"{reason}. {REMEDY}" if isinstance(error, PermissionError) else reason
