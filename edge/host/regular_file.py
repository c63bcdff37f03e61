"""Reads files that must be regular ones: a pipe in their place would let the reader wait for ever."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def opened(path: Path) -> BinaryIO:
    """The file, open for reading.  Raises OSError, also for a pipe, a device and a folder."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:  # a NUL in the path
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(handle, "rb")


def read(path: Path, max_bytes: int) -> bytes:
    """The content, at most `max_bytes` of it.  Raises OSError as `opened` does."""
    with opened(path) as file:
        return file.read(max_bytes)
