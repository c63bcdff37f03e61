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


TAKEN: Final = (sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID)
"""A number above the counter is in use already: the counter is damaged."""
UNDECODABLE: Final = "Could not decode to UTF-8"
"""Starts the message of the sqlite3 module, without a code, for a text that is damaged."""


def is_damage(error: sqlite3.Error) -> bool:
    return (
        isinstance(error, DamagedError)
        or _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        or getattr(error, "sqlite_errorcode", 0) in TAKEN
        or str(error).startswith(UNDECODABLE)
    )


def ends_connection(error: sqlite3.Error) -> bool:
    """Whether the connection may never work again, although the file can: it must be opened anew."""
    broken = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
    return is_damage(error) or _code(error) in broken


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
