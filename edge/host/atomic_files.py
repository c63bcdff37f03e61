"""Files that are replaced as a whole: after a power cut there is the old one or the new one, never a part of one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SHARED: Final = 0o666
"""For what others may read, as far as the umask lets them."""


def replace(path: Path, content: bytes, *, mode: int = 0o600, owner: os.stat_result | None = None) -> None:
    """Put content in the place of a file, there or not; it is on the disk when this returns.

    owner: whose it becomes when root writes it; None: root's.
    Raises OSError: the old file is then as it was, unless the folder alone could not be brought to the disk.
    """
    replace_all({path: content}, mode=mode, owner=owner)


def replace_all(files: Mapping[Path, bytes], *, mode: int = 0o600, owner: os.stat_result | None = None) -> None:
    """Put contents in the places of files of one folder, the last one after the others it may refer to.

    All are on the disk before the first takes its place, so that a disk that is full leaves all as they were.
    owner: as above.  Raises OSError.
    """
    fresh = {path: path.with_name(path.name + ".new") for path in files}
    try:
        for path, content in files.items():
            _put(fresh[path], content, mode, owner)
        for path, new in fresh.items():
            new.replace(path)
    except BaseException:  # Ctrl-C leaves nothing unfinished either
        for new in fresh.values():
            try:
                new.unlink(missing_ok=True)
            except OSError:
                pass  # what stands in the way is not ours to clear
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
    """Bring to the disk which files a folder holds.  Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
