"""Reads the write-ahead log of SQLite frame by frame, also beyond a damaged frame, where SQLite stops without a word.

The checksum of a frame continues that of the frame before it, which is stored there: so each frame can be checked by
itself, and one flipped bit costs one page image instead of all that follow.
Source: https://www.sqlite.org/fileformat2.html#walformat
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

HEADER_BYTES: Final = 32
FRAME_HEADER_BYTES: Final = 24
MAGIC: Final = 0x377F0682
"""The lowest bit is set when the words of the checksums are big-endian."""
PAGE_BYTES: Final = 4096
"""Of a database that the outbox created; the size in a damaged header is not trusted."""


@dataclass(slots=True)
class Wal:
    """What can be read of one log."""

    pages: dict[int, int] = field(default_factory=dict)
    """By page number: where in the file its newest intact image starts."""
    page_count: int = 0
    """Pages of the database after the newest intact commit; 0: unknown."""
    is_used: bool = False
    """There is at least one frame or a part of one: the database was not closed."""
    is_damaged: bool = False
    """Intact commits lie beyond a frame that SQLite does not get past."""
    is_suspect: bool = False
    """Something lies beyond the last commit that SQLite can read: an unfinished transaction, or damage."""


def read(path: Path) -> Wal:
    """Check all frames; an empty result when there is no log.  Raises OSError."""
    wal = Wal()
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return wal
    try:
        _read(handle, wal)
    finally:
        os.close(handle)
    return wal


def _read(handle: int, wal: Wal) -> None:
    header = os.pread(handle, HEADER_BYTES, 0)
    size = os.fstat(handle).st_size
    wal.is_used = size > HEADER_BYTES
    if not wal.is_used:
        return
    magic, _, page_bytes = struct.unpack(">III", header[:12])
    order = ">" if magic & 1 else "<"
    seed = struct.unpack(">II", header[24:])
    has_header = magic & ~1 == MAGIC and page_bytes == PAGE_BYTES and _sum(header[:24], (0, 0), order) == seed
    salts = header[16:24] if has_header else os.pread(handle, 8, HEADER_BYTES + 8)
    in_chain = has_header  # SQLite reads the frames up to here
    is_open = not has_header  # a frame lies beyond the last commit that SQLite reads
    step = FRAME_HEADER_BYTES + PAGE_BYTES
    for at in range(HEADER_BYTES, size, step):
        frame = os.pread(handle, step, at)
        if len(frame) < FRAME_HEADER_BYTES or frame[8:16] != salts:
            in_chain = False  # of an older round, or damaged
            seed = _stored(frame) or seed
            continue
        is_open = True
        is_intact = len(frame) == step and _stored(frame) == _sum(frame[:8] + frame[FRAME_HEADER_BYTES:], seed, order)
        seed = _stored(frame) or seed
        in_chain = in_chain and is_intact
        if not is_intact:
            continue
        page, commit_pages = struct.unpack(">II", frame[:8])
        wal.pages[page] = at + FRAME_HEADER_BYTES
        if commit_pages:
            wal.page_count = commit_pages
            wal.is_damaged = wal.is_damaged or not in_chain
            is_open = is_open and not in_chain
    wal.is_suspect = is_open


def _stored(frame: bytes) -> Any:
    """The checksum in the header of a frame; None when the header is cut off."""
    return struct.unpack(">II", frame[16:24]) if len(frame) >= FRAME_HEADER_BYTES else None


def _sum(data: bytes, seed: Any, order: str) -> tuple[int, int]:
    """SQLite's checksum of the words of `data`, continued from `seed`."""
    words = np.frombuffer(data, order + "u4").astype(np.uint64)
    first, second, power = _weights(len(words))
    return (
        (int((words * first).sum()) + power[0] * seed[0] + power[1] * seed[1]) & 0xFFFFFFFF,
        (int((words * second).sum()) + power[1] * seed[0] + power[2] * seed[1]) & 0xFFFFFFFF,
    )


@cache
def _weights(count: int) -> tuple[Any, Any, tuple[int, int, int]]:
    """How much each word counts in the two sums, and the matrix that carries the seed over `count` words.

    One pair of words x, y changes the sums a, b to a + b + x and a + 2b + x + y: the matrix [[1, 1], [1, 2]].
    """
    first = np.zeros(count, np.uint64)
    second = np.zeros(count, np.uint64)
    p, q, r = 1, 0, 1  # the symmetric power [[p, q], [q, r]] of that matrix
    for pair in range(count - 2, -1, -2):
        first[pair], first[pair + 1] = (p + q) & 0xFFFFFFFF, q
        second[pair], second[pair + 1] = (q + r) & 0xFFFFFFFF, r
        p, q, r = (p + q) & 0xFFFFFFFF, (p + 2 * q) & 0xFFFFFFFF, (q + 2 * r) & 0xFFFFFFFF
    return first, second, (p, q, r)
