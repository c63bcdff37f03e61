"""Makes a new database of whatever a damaged one still holds, so that a kill at any moment loses nothing.

The damaged files stay in place, unchanged, until the new database is complete and on the disk under the name
`<database>.new`. From that moment the salvage counts as done: whoever opens the outbox next finishes the exchange, in
which each step can be repeated.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

from edge.delivery.outbox.pages import Pages
from edge.delivery.outbox.rows import (
    PENDING,
    SCHEMA_VERSION,
    TABLES,
    VICTIM_INDEX,
    Loss,
    LossCause,
    is_intact,
    put_pending,
)
from edge.delivery.outbox.wal import Wal
from edge.delivery.outbox.watermark import MAX_SEQ
from edge.host import atomic_files

SIDE_SUFFIXES: Final = ("-wal", "-shm", "")
"""Of the files that are moved aside, in this order: the log must never lie beside a database that it does not fit."""
CAUSES: Final = get_args(LossCause)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the side files say about a damaged database."""

    oldest: int | None
    """All numbers below it are delivered, refused, or reported as lost; None: unknown."""
    newest: int
    """The newest number that may have been used."""


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What the new database holds.  newest: where its count continues."""

    waiting: int
    dead: int
    newest: int
    lost: int


def build(database: Path, wal: Wal, bounds: Bounds) -> Salvaged:
    """Write the new database, complete and synced, beside the damaged one.  Raises OSError, sqlite3.Error."""
    part = _named(database, ".part")
    for suffix in ("", "-journal", "-wal", "-shm"):
        part.with_name(part.name + suffix).unlink(missing_ok=True)
    os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=OFF")  # an unfinished file is thrown away as a whole
        db.execute("PRAGMA synchronous=OFF")
        db.execute("BEGIN")
        for statement in (*TABLES.split(";"), VICTIM_INDEX):
            db.execute(statement)
        with Pages(database, _named(database, "-wal"), wal) as pages:
            counter = _copy(pages, db, bounds.oldest)
        salvaged = _finish(db, counter, bounds)
        db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        db.execute("COMMIT")
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.rename(_named(database, ".new"))
    atomic_files.sync(database.parent)
    return salvaged


def finish_exchange(database: Path, aside_second: int) -> Path | None:
    """Put a complete new database in the place of the damaged files; returns their new name.  Raises OSError.

    None: there was no new database.  aside_second: for the name of the damaged files.
    """
    fresh = _named(database, ".new")
    if not fresh.is_file():
        return None
    aside = unused(database, aside_second)
    for suffix in SIDE_SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            _named(database, suffix).rename(aside.with_name(aside.name + suffix))
    atomic_files.sync(database.parent)
    fresh.rename(database)
    atomic_files.sync(database.parent)
    return aside


def unused(path: Path, second: int) -> Path:
    """A name for a damaged file under which nothing lies yet."""
    number, aside = 0, path.with_name(f"{path.name}.damaged-{second}")
    while any(os.path.lexists(aside.with_name(aside.name + suffix)) for suffix in SIDE_SUFFIXES):
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{second}.{number}")
    return aside


def _named(database: Path, suffix: str) -> Path:
    return database.with_name(database.name + suffix)


def _copy(pages: Pages, db: sqlite3.Connection, oldest: int | None) -> int:
    """Copy every intact row; returns the newest counter found, or 0."""
    counter = 0
    free = pages.free()
    for seq, columns in pages.records(number for number in range(2, pages.count + 1) if number not in free):
        values = columns[1:]
        match columns:
            case (None, str(), str(), str(), bytes(), int(), None | int()) if is_intact((seq, *values)):
                # Without a readable list of free pages there may be two copies: the newer one is the delivered one.
                db.execute(
                    "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (seq) DO UPDATE"
                    " SET delivered_ns = coalesce(event.delivered_ns, excluded.delivered_ns)",
                    (seq, *values[:-1], values[-1] if (values[-1] or 0) > 1 else None),  # 0 and 1: a damaged NULL
                )
            case (None, str(), str(), str(), bytes(), int(), int(), int(), str()) if is_intact((seq, *values)):
                db.execute("INSERT OR REPLACE INTO dead VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (seq, *values))
            case (None, int(first), int(last), int(count), str(cause)):
                if seq >= 0 and 0 < first <= last < MAX_SEQ and count > 0 and cause in CAUSES:
                    db.execute("INSERT OR REPLACE INTO loss VALUES (?, ?, ?, ?, ?)", (seq, first, last, count, cause))
            case (None, int(last), str(), int()) if seq == 1 and 0 <= last < MAX_SEQ:
                counter = max(counter, last)
            case _:
                pass  # of another table, or damaged
    # An event that waits again after `retry` may also be readable where it was a dead letter.
    db.execute("DELETE FROM dead WHERE seq IN (SELECT seq FROM event)")
    if oldest is not None:
        _copy_deleted(pages, db, sorted(free), oldest)
    return counter


def _copy_deleted(pages: Pages, db: sqlite3.Connection, free: list[int], oldest: int) -> None:
    """Copy the rows of free pages whose numbers may still wait: damage can have made a page seem free."""
    for seq, columns in pages.records(number for number in free if 1 < number <= pages.count):
        if len(columns) == 7 and seq >= oldest and is_intact((seq, *columns[1:])):
            db.execute(
                "INSERT OR IGNORE INTO event SELECT ?1, ?2, ?3, ?4, ?5, ?6, NULL"
                " WHERE ?1 NOT IN (SELECT seq FROM dead)",
                (seq, *columns[1:6]),
            )


def _finish(db: sqlite3.Connection, counter: int, bounds: Bounds) -> Salvaged:
    """Set the count, and note the numbers that were not found as lost."""
    saved = db.execute("SELECT max(seq) FROM (SELECT seq FROM event UNION ALL SELECT seq FROM dead)").fetchone()[0] or 0
    newest = max(saved, counter, bounds.newest)
    # A report that is lost itself has reported nothing.
    db.execute(
        "DELETE FROM loss WHERE seq <> ? AND seq NOT IN (SELECT seq FROM event UNION ALL SELECT seq FROM dead)",
        (PENDING,),
    )
    (first,) = db.execute("SELECT min(seq) FROM event WHERE delivered_ns IS NOT NULL").fetchone()
    oldest = bounds.oldest or first or 1
    loss = _missing(db, oldest, newest)
    db.execute("INSERT INTO counter VALUES (1, ?, '', 0)", (newest,))
    if loss is not None:
        put_pending(db, loss)
    (waiting,) = db.execute("SELECT count(*) FROM event WHERE delivered_ns IS NULL").fetchone()
    (dead,) = db.execute("SELECT count(*) FROM dead").fetchone()
    return Salvaged(waiting, dead, newest, 0 if loss is None else loss.count)


def _missing(db: sqlite3.Connection, oldest: int, newest: int) -> Loss | None:
    """The numbers from `oldest` to `newest` that neither a row nor a report of a loss accounts for."""
    total: Loss | None = None
    at = oldest
    for first, last in _known(db, oldest, newest):
        if first > at:
            hole = Loss(at, first - 1, first - at, "damaged")
            total = hole if total is None else total.merged(hole)
        at = max(at, last + 1)
    return total


def _known(db: sqlite3.Connection, oldest: int, newest: int) -> Iterator[tuple[int, int]]:
    """The ranges that are accounted for, ascending; the last one lies above `newest`."""
    yield from db.execute(
        "SELECT seq, seq FROM event WHERE seq BETWEEN ?1 AND ?2"
        " UNION ALL SELECT seq, seq FROM dead WHERE seq BETWEEN ?1 AND ?2"
        " UNION ALL SELECT first_seq, last_seq FROM loss WHERE last_seq >= ?1 AND first_seq <= ?2 ORDER BY 1",
        (oldest, newest),
    )
    yield newest + 1, newest + 1
