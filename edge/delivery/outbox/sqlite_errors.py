"""What an error of sqlite3 means: is the file damaged, and what can the operator do."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from edge.errors import OutboxError

PRIMARY_CODE: Final = 0xFF
"""The bits of an extended result code that hold the primary one."""


class DamagedError(sqlite3.DatabaseError):
    """The integrity check found a fault in the file."""


def is_damage(error: sqlite3.Error) -> bool:
    return isinstance(error, DamagedError) or _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def translated(error: sqlite3.Error, path: Path) -> OutboxError:
    """The error as callers outside this package see it.  path: of the database."""
    remedies = {
        sqlite3.SQLITE_FULL: "the disk is full; make room",
        sqlite3.SQLITE_READONLY: "the file is not writable; check the owner of state_dir",
        sqlite3.SQLITE_CANTOPEN: "the file cannot be opened; check the owner of state_dir",
        sqlite3.SQLITE_IOERR: "the disk failed; check the kernel log",
        sqlite3.SQLITE_BUSY: "another process locks the file; is a second defectd running?",
    }
    remedy = remedies.get(_code(error))
    return OutboxError(f"{path}: {error}" + (f": {remedy}" if remedy else ""))


def _code(error: sqlite3.Error) -> int:
    return (getattr(error, "sqlite_errorcode", 0) or 0) & PRIMARY_CODE
