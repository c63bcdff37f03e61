"""The side file that says how far the outbox has come: exact after `kill -9`, and writable on a full disk.

`<database>.mark` is one record of fixed size with its own checksum. The outbox overwrites it in place after each
commit, so it needs no room on the disk, and it is not synced: a kill takes nothing back. SQLite silently rolls a
damaged WAL back to the last frame that it can read; the mark shows that rows are missing. It also keeps the numbers of
events that could not be stored before a stop.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import stat
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from edge.delivery.outbox.rows import PENDING

SIZE: Final = 512
"""Bytes of the record: one sector, which a disk writes whole or not at all."""
log = logging.getLogger(__name__)

MAX_SEQ: Final = 1 << 53
"""No counter comes this far: a larger number is damage."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the outbox has come."""

    stored: int
    """The newest number committed to the database."""
    used: int
    """The newest number given to an event, stored or lost."""
    oldest: int
    """All numbers below it are delivered, refused, or reported as lost."""
    boot: str
    """Id of the boot in which this was written."""
    closed: bool = False
    """The outbox was closed after this, and the record synced."""

    def is_exact(self, boot: str) -> bool:
        """Whether no later record can be missing: a power cut takes records back, a kill does not."""
        return self.closed or self.boot == boot


class Watermark:
    """The mark of one database.  The lock of the outbox guards it."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + ".mark")
        self._handle: int | None = None
        self._is_working = True
        self.progress: Progress | None = None
        """As last read or written; None: unknown."""

    def read(self) -> Progress | None:
        """The record; None when there is none that can be trusted."""
        try:
            self.progress = _decoded(read_regular(self._path, SIZE))
        except (OSError, ValueError, KeyError, TypeError):
            self.progress = None
        return self.progress

    @property
    def exists(self) -> bool:
        return os.path.lexists(self._path)

    def write(self, progress: Progress, *, is_synced: bool = False) -> None:
        """Replace the record.  Raises OSError."""
        if self._handle is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
            self._handle = os.open(self._path, flags, 0o600)
            is_synced = True  # from now on the file has its block, also on a disk that is full
        if os.pwrite(self._handle, _encoded(progress), 0) != SIZE:
            raise OSError("a short write")
        if is_synced:
            os.fsync(self._handle)
        self.progress = progress

    def note(self, db: sqlite3.Connection, last_seq: int, boot: str) -> None:
        """Write how far the database has come; called with the lock that hides the commit from every reader.

        Where the mark cannot be written, the outbox works without it.
        """
        try:
            self.write(Progress(last_seq, last_seq, oldest_open(db, last_seq), boot))
        except OSError as error:
            if self._is_working:
                log.warning("%s cannot be written (%s): after damage a loss can only be estimated", self._path, error)
            self._is_working = False
        else:
            self._is_working = True

    def close(self) -> None:
        """Safe more than once."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def read_regular(path: Path, limit: int) -> bytes:
    """The first `limit` bytes.  Raises OSError, also for what is not a file: a FIFO must not block."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(f"{path} is not a file")
        return os.read(handle, limit)
    finally:
        os.close(handle)


def oldest_open(db: sqlite3.Connection, last_seq: int) -> int:
    """All numbers below it are delivered, refused, or in the report of a loss that is delivered or refused."""
    (waiting,) = db.execute("SELECT min(seq) FROM event WHERE delivered_ns IS NULL").fetchone()
    oldest: int = last_seq + 1 if waiting is None else waiting
    (reported,) = db.execute("SELECT min(first_seq) FROM loss WHERE seq >= ? OR seq = ?", (oldest, PENDING)).fetchone()
    return oldest if reported is None else min(oldest, reported)


def _encoded(progress: Progress) -> bytes:
    text = json.dumps(asdict(progress)).encode().ljust(SIZE - 10)
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _decoded(record: bytes) -> Progress:
    """Raises ValueError, KeyError or TypeError for anything but an intact record."""
    text = record[9:-1]
    if len(record) != SIZE or int(record[:8], 16) != zlib.crc32(text):
        raise ValueError("damaged")
    return Progress(**json.loads(text))
