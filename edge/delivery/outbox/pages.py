"""Reads the rows of a damaged database page by page, without SQLite, which gives up at the first fault.

A table of SQLite keeps its rows in leaf pages, and each of them can be read by itself. So one damaged page costs the
rows on it and no others.  Source: https://www.sqlite.org/fileformat2.html
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from edge.delivery.outbox.wal import PAGE_BYTES, Wal

LEAF: Final = 0x0D
"""First byte of a leaf page of a table."""
MAX_PAYLOAD_BYTES: Final = 64 * 1024 * 1024
"""A record that claims to be longer is damage."""
INTEGER_BYTES: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
"""By serial type."""

Record = tuple[int, tuple[Any, ...]]
"""The row id and the columns: None, int, float, str or bytes."""


class Pages:
    """The pages of a database file, with the newer images that its log holds.  Changes neither file."""

    def __init__(self, database: Path, log: Path, wal: Wal) -> None:
        """Raises OSError."""
        self._wal = wal
        with contextlib.ExitStack() as opening:
            self._database = _opened(database, opening)
            self._log = _opened(log, opening) if wal.pages else None
            self._closing = opening.pop_all()
        size = 0 if self._database is None else os.fstat(self._database).st_size
        self.count = max(-(-size // PAGE_BYTES), max(wal.pages, default=0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closing.close()

    def page(self, number: int) -> bytes:
        """The newest image, from 1 on; shorter than a page where the file ends or the disk fails."""
        offset = self._wal.pages.get(number)
        try:
            if offset is not None and self._log is not None:
                return os.pread(self._log, PAGE_BYTES, offset)
            if self._database is not None and number > 0:
                return os.pread(self._database, PAGE_BYTES, (number - 1) * PAGE_BYTES)
        except OSError:
            pass  # a sector that cannot be read: its rows are lost, the others are not
        return b""

    def records(self, numbers: Iterable[int]) -> Iterator[Record]:
        """Every readable row of every table on these pages."""
        for number in numbers:
            page = self.page(number)
            if not page or page[0] != LEAF:
                continue
            page = page.ljust(PAGE_BYTES, b"\0")
            for index in range(min(struct.unpack(">H", page[3:5])[0], PAGE_BYTES // 4)):
                at = int.from_bytes(page[8 + 2 * index : 10 + 2 * index], "big")
                with contextlib.suppress(ValueError, IndexError, struct.error):
                    yield self._record(page, at)

    def free(self) -> set[int]:
        """The pages that the database no longer uses; they may hold rows that were deleted."""
        found: set[int] = set()
        first = self.page(1)
        trunk = int.from_bytes(first[32:36], "big")
        while 1 < trunk <= self.count and trunk not in found:
            found.add(trunk)
            page = self.page(trunk).ljust(PAGE_BYTES, b"\0")
            following, count = struct.unpack(">II", page[:8])
            if count > PAGE_BYTES // 4 - 2:
                break
            found.update(struct.unpack(f">{count}I", page[8 : 8 + 4 * count]))
            trunk = following
        return found

    def _record(self, page: bytes, at: int) -> Record:
        """Raises ValueError or IndexError for anything but a whole record."""
        size, at = _varint(page, at)
        row_id, at = _varint(page, at)
        if not 0 < size <= MAX_PAYLOAD_BYTES:
            raise ValueError("no record")
        return row_id, _columns(self._payload(page, at, size))

    def _payload(self, page: bytes, at: int, size: int) -> bytes:
        local_max = PAGE_BYTES - 35
        if size <= local_max:
            return page[at : at + size]
        least = (PAGE_BYTES - 12) * 32 // 255 - 23
        local = least + (size - least) % (PAGE_BYTES - 4)
        if local > local_max:
            local = least
        parts = [page[at : at + local]]
        following = int.from_bytes(page[at + local : at + local + 4], "big")
        missing = size - local
        while missing > 0:
            overflow = self.page(following)
            if len(overflow) < PAGE_BYTES:
                raise ValueError("the record is cut off")
            parts.append(overflow[4 : 4 + missing])
            missing -= len(parts[-1])
            following = int.from_bytes(overflow[:4], "big")
        return b"".join(parts)


def has_sound_header(page: bytes) -> bool:
    """Whether the first page starts as SQLite writes it for an outbox: the fields that never change."""
    formats, fixed, schema_format, encoding = page[18:20], page[20:24], page[44:48], page[56:60]
    return (
        page[:16] == b"SQLite format 3\0"
        and int.from_bytes(page[16:18], "big") == PAGE_BYTES
        and formats in (b"\1\1", b"\2\2")
        and fixed == b"\0\x40\x20\x20"
        and schema_format in (b"\0\0\0\0", b"\0\0\0\4")
        and encoding in (b"\0\0\0\0", b"\0\0\0\1")
    )


def _opened(path: Path, closing: contextlib.ExitStack) -> int | None:
    """None when there is no such file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    closing.callback(os.close, handle)
    return handle if stat.S_ISREG(os.fstat(handle).st_mode) else None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number and where it ends."""
    value = 0
    for index in range(9):
        byte = data[at + index]
        if index == 8:
            value = value << 8 | byte
            return (value - (1 << 64) if value >> 63 else value), at + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + index + 1
    raise AssertionError  # the ninth byte ends the loop


def _columns(record: bytes) -> tuple[Any, ...]:
    """Raises ValueError or IndexError."""
    end, at = _varint(record, 0)
    if not 0 < end <= len(record):
        raise ValueError("no record")
    types = []
    while at < end:
        kind, at = _varint(record, at)
        types.append(kind)
    values: list[Any] = []
    for kind in types:
        if kind >= 12:
            data = record[at : at + (kind - 12) // 2]
            if len(data) != (kind - 12) // 2:
                raise ValueError("the record is cut off")
            values.append(data.decode("utf-8") if kind & 1 else data)
            at += len(data)
        elif kind in (8, 9):
            values.append(kind - 8)
        elif kind in INTEGER_BYTES:
            data = record[at : at + INTEGER_BYTES[kind]]
            # Nothing is there: the type is damaged, the columns before it are not.
            values.append(int.from_bytes(data, "big", signed=True) if len(data) == INTEGER_BYTES[kind] else None)
            at += INTEGER_BYTES[kind]
        elif kind == 0:
            values.append(None)
        else:
            raise ValueError("no column of ours")  # a float, or a type that SQLite reserves
    return tuple(values)
