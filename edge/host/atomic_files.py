"""Replaces files as a whole: after a power cut there is the old file or the new one, never a part of one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SHARED: Final = 0o666
"""Mode of a file that others may read, as far as the umask permits."""


def replace(path: Path, content: bytes, *, mode: int = 0o600, owner: os.stat_result | None = None) -> None:
    """Write a file, or replace it; the content is on the disk when this returns.

    owner: the file's owner when root writes it; None: root.
    Raises OSError: the old file is then unchanged, except when only the sync of the folder failed.
    """
    replace_all({path: content}, mode=mode, owner=owner)


def replace_all(files: Mapping[Path, bytes], *, mode: int = 0o600, owner: os.stat_result | None = None) -> None:
    """Replace files of one folder, in this order: the last one may refer to the others.

    All contents are on the disk before the first file is replaced, so that a full disk leaves all files unchanged.
    owner: see `replace`.  Raises OSError.
    """
    fresh = {path: path.with_name(path.name + ".new") for path in files}
    try:
        for path, content in files.items():
            _put(fresh[path], content, mode, owner)
        for path, new in fresh.items():
            new.replace(path)
    except BaseException:  # Ctrl-C leaves no unfinished file either
        for new in fresh.values():
            try:
                new.unlink(missing_ok=True)
            except OSError:
                pass  # a folder with that name: leave it
        raise
    for folder in {path.parent for path in files}:
        sync(folder)


def _put(path: Path, content: bytes, mode: int, owner: os.stat_result | None) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if owner is not None and os.geteuid() == 0:
        os.chown(path, owner.st_uid, owner.st_gid)


def sync(folder: Path) -> None:
    """Write a folder's list of files to the disk.  Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
