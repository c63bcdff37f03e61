"""One record that is being written: lines wait in memory until the disk takes them all, or none.

Each write ends with the number of the newest event in it. After `kill -9` whatever follows the last such line is cut
off, and the events are read from the outbox again: an event is in the record once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from edge.coverage.coil_lines import (
    Defect,
    Ended,
    Header,
    Item,
    Loss,
    Missing,
    Progress,
    Resumed,
    Runs,
    Setup,
    decoded,
    encoded,
)
from edge.coverage.coil_record import MAX_LINE_BYTES
from edge.host import atomic_files, regular_file

ALWAYS: Final = (Header, Ended, Missing, Loss, Resumed, Setup)
"""Items that are written although the record is full: few, and they say what is missing."""


class CoilFile:
    """The record of one coil, open for writing.  Owned by one thread."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """path: new, or a record that a node left behind.  max_bytes: beyond them only ALWAYS is written.

        A new file appears with the first write.  Raises OSError, ValueError where no header can be read.
        """
        self.path = path
        self._max_bytes = max_bytes
        self.header: Header | None = None
        self.ended: Ended | None = None
        self.setup: tuple[dict[str, str], str] = {}, ""
        """Model and configuration of the newest event."""
        self.seq = 0
        """All events up to this one are in the record, or wait to be written."""
        self.seen = 0
        self.reach_m = 0.0
        """How far runs reach."""
        self.cameras: set[str] = set()
        """Cameras that have runs on this coil."""
        self.is_full = False
        self._noted_seq = 0
        """As the file has it."""
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._size = 0
        self._handle = -1
        try:
            self._recover()
        except FileNotFoundError:
            return
        self._open()
        if os.fstat(self._handle).st_size != self._size:
            os.ftruncate(self._handle, self._size)

    # ---- content -------------------------------------------------------------------------------------

    @property
    def coil(self) -> str | None:
        assert self.header is not None
        return self.header.coil

    @property
    def lane(self) -> str | None:
        assert self.header is not None
        return self.header.lane

    @property
    def is_new(self) -> bool:
        """It has no file yet."""
        return self._handle < 0

    @property
    def id(self) -> str:
        assert self.header is not None
        return self.header.id

    @property
    def has_waiting(self) -> bool:
        return bool(self._waiting) or self._noted_seq != self.seq

    @property
    def size(self) -> int:
        """Bytes in the file, and waiting for it."""
        return self._size + self._waiting_bytes

    def add(self, item: Item) -> None:
        """Append an item, with the next write."""
        if self.size > self._max_bytes and not isinstance(item, ALWAYS):
            if not self.is_full:
                self.is_full = True
                self._put(Loss("all defects, runs and widths after this: the record is full", None, self._started))
            return
        self._note(item)
        self._put(item)

    def count(self, seq: int) -> bool:
        """Take the next event of the outbox.  False where the record has it already."""
        if seq <= self.seq:
            return False
        if self.seq and seq != self.seq + 1:
            self._put(Missing(self.seq + 1, seq - 1))
        self.seq = seq
        self.seen += 1
        return True

    @property
    def _started(self) -> str:
        return "" if self.header is None else self.header.started

    def _put(self, item: Item) -> None:
        line = encoded(item)
        if len(line) <= MAX_LINE_BYTES:
            self._waiting.append(line)
            self._waiting_bytes += len(line)

    def _note(self, item: Item) -> None:
        match item:
            case Header():
                self.header = item
                self.seq = self._noted_seq = item.first_seq - 1
                self.setup = dict(item.model), item.config_sha256
            case Runs(camera, runs):
                self.cameras.add(camera)
                self.reach_m = max(self.reach_m, *(run.to_m for run in runs))
            case Defect(to_m=to_m):
                self.reach_m = max(self.reach_m, to_m or 0.0)
            case Setup(model=model, config_sha256=config_sha256):
                self.setup = dict(model), config_sha256
            case Ended():
                self.ended = item
            case _:
                pass

    # ---- the disk ------------------------------------------------------------------------------------

    def write(self) -> None:
        """Append what waits.  Raises OSError: the file is then as before, and everything still waits."""
        if not self.has_waiting:
            return
        progress = encoded(Progress(self.seq, self.seen))
        block = b"".join((*self._waiting, progress))
        is_new = self._handle < 0
        if is_new:
            self._open()
        done = 0
        try:
            while done < len(block):
                done += os.write(self._handle, block[done:])
            if is_new:
                os.fsync(self._handle)  # after a power cut the header says from where on events are read again
        except OSError:
            os.ftruncate(self._handle, self._size)
            if is_new:
                self.close()
            raise
        self._size += len(block)
        self._waiting.clear()
        self._waiting_bytes = 0
        self._noted_seq = self.seq

    def sync(self) -> None:
        """Make what was written survive a power cut.  Raises OSError."""
        if self._handle >= 0:
            os.fsync(self._handle)

    def close(self) -> None:
        """Close the file; safe to repeat."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_APPEND
        self._handle = os.open(self.path, flags, 0o640)
        atomic_files.sync(self.path.parent)

    def _recover(self) -> None:
        """Read what is there, up to the last line that says how far it came."""
        at = 0
        items: list[Item] = []
        with regular_file.opened(self.path) as file:
            while line := file.readline(MAX_LINE_BYTES):
                if not line.endswith(b"\n"):
                    break
                at += len(line)
                try:
                    item = decoded(line)
                except ValueError:
                    if self.header is None and not items:
                        raise
                    break  # after a power cut: blocks of zeros
                if item is None:
                    continue
                items.append(item)
                if isinstance(item, Progress):
                    for each in items:
                        self._note(each)
                    items.clear()
                    self.seq = self._noted_seq = item.seq
                    self.seen = item.seen
                    self._size = at
        if self._size and self.header is None:
            raise ValueError("the record has no header")
