"""Opens the database of the outbox, and replaces it when it is damaged, without repeating a number.

Three things say which numbers were used: the counter in the database, the mark beside it (`watermark.py`, exact unless
the power failed), and the reserved block (`sequence.py`, always above). When they contradict each other, the count
continues above all of them, and the difference is a loss that an events.dropped event reports.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from edge.delivery.outbox import salvage, wal
from edge.delivery.outbox.pages import Pages, has_sound_header
from edge.delivery.outbox.rows import (
    SCHEMA_VERSION,
    TABLES,
    VICTIM_INDEX,
    Loss,
    LossCause,
    Totals,
    pending_loss,
    put_pending,
)
from edge.delivery.outbox.salvage import Bounds
from edge.delivery.outbox.sequence import SEQ_BLOCK, SequenceFile
from edge.delivery.outbox.sqlite_errors import DamagedError, is_damage, translated
from edge.delivery.outbox.wal import Wal
from edge.delivery.outbox.watermark import MAX_SEQ, Progress, Watermark
from edge.errors import OutboxError
from edge.host.clock import NS_PER_MS, NS_PER_S, Clock

log = logging.getLogger(__name__)

SUFFIXES: Final = ("", "-wal", "-shm", ".seq", ".seq.new", ".mark", ".part", ".new")
"""Of the files of one outbox."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An open database.  unreported: numbers that are lost and that no event has reported yet."""

    db: sqlite3.Connection
    totals: Totals
    unreported: Loss | None


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What lies beside the database when it is opened."""

    wal: Wal
    mark: Progress | None
    reserved: int
    """0: unknown."""
    has_bad_mark: bool
    """There is a mark, and it is not readable; version 0.1 wrote none."""
    has_side_files: bool
    """Without any, no number was ever used, unless somebody deleted them."""


class DatabaseFile:
    """The database file of one outbox.  The lock of the outbox guards it."""

    def __init__(
        self, path: Path, sequence: SequenceFile, mark: Watermark, clock: Clock, boot: str, *, is_synced: bool
    ) -> None:
        """boot: id of this boot.  is_synced: whether each append is synced to the disk."""
        self._path = path
        self._sequence = sequence
        self._mark = mark
        self._clock = clock
        self._boot = boot
        self._is_synced = is_synced

    def open(self) -> Opened:
        """Open the database, create it, or replace it when it is damaged.  Raises OutboxError."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise OutboxError(f"{self._path.parent}: cannot be created: {error.strerror}") from error
        with self._errors():
            self._clear_the_way()
            self._path.with_name(self._path.name + ".part").unlink(missing_ok=True)  # of a salvage that was killed
            if (aside := salvage.finish_exchange(self._path, self._second())) is not None:
                log.warning("the exchange of a damaged outbox is finished: the old files are %s", aside.name)
            try:
                return self._open()
            except sqlite3.Error as error:
                if not is_damage(error):
                    raise
                damage = error
        return self.replace(damage)

    def replace(self, damage: sqlite3.Error) -> Opened:
        """Put a new database in the place of the damaged one, with all rows that are still readable.

        No connection to the damaged files may be open; they stay, under another name.  Raises OutboxError: the damaged
        files are then unchanged, and the next attempt can succeed.
        """
        with self._errors():
            self._clear_the_way()
            found = self._evidence()
            oldest = None if found.mark is None else found.mark.oldest
            salvaged = salvage.build(self._path, found.wal, Bounds(oldest, self._ceiling(found)))
            aside = salvage.finish_exchange(self._path, self._second())
            log.error(
                "%s is damaged (%s): moved to %s; %d undelivered events and %d dead letters were saved from it,"
                " %d may be lost, the count continues at seq %d",
                self._path,
                damage,
                "nowhere" if aside is None else aside.name,
                salvaged.waiting,
                salvaged.dead,
                salvaged.lost,
                salvaged.newest + 1,
            )
            return self._open()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn errors of the disk and of SQLite into OutboxError."""
        try:
            yield
        except sqlite3.Error as error:
            raise translated(error, self._path) from error
        except OSError as error:
            raise OutboxError(f"{self._path}: {error}") from error

    def _open(self) -> Opened:
        found = self._evidence()
        if found.wal.is_damaged:
            raise DamagedError("the write-ahead log is damaged")
        is_empty = not self._path.exists() or self._path.stat().st_size == 0
        if is_empty and found.wal.pages:
            raise DamagedError("the database is gone, its write-ahead log is not")  # SQLite would delete the log
        with Pages(self._path, self._path.with_name(self._path.name + "-wal"), found.wal) as pages:
            if not is_empty and not has_sound_header(pages.page(1)):
                raise DamagedError("its header is damaged")  # SQLite has other words for it, or only reads such a file
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))  # sets the mode before the first byte is written
        db = sqlite3.connect(self._path, timeout=5.0, isolation_level=None, check_same_thread=False)
        try:
            return self._set_up(db, found, is_empty=is_empty)
        except BaseException:
            db.close()
            raise

    def _set_up(self, db: sqlite3.Connection, found: _Evidence, *, is_empty: bool) -> Opened:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA journal_size_limit=4194304")
        self._check(db, found, is_empty=is_empty)
        db.execute("BEGIN IMMEDIATE")
        if is_empty or db.execute("PRAGMA user_version").fetchone()[0] == 0:
            for statement in TABLES.split(";"):
                db.execute(statement)
            db.execute("INSERT INTO counter VALUES (1, 0, '', 0)")
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        db.execute(VICTIM_INDEX)
        last_seq, boot, risky = _counter(db)
        power_cut = bool(risky) and boot != self._boot
        unreported = pending_loss(db)
        for loss in self._lost(db, last_seq, found, is_new=is_empty, power_cut=power_cut):
            unreported = put_pending(db, loss)
            last_seq = max(last_seq, loss.last_seq)
        db.execute(
            "UPDATE counter SET last_seq = ?, boot_id = ?, risky = ?",
            (last_seq, self._boot, int(not self._is_synced)),
        )
        db.execute("COMMIT")
        return Opened(db, Totals(last_seq).counted(db), unreported)

    def _check(self, db: sqlite3.Connection, found: _Evidence, *, is_empty: bool) -> None:
        """Raises DamagedError, or OutboxError for the database of a newer version."""
        version = db.execute("PRAGMA user_version").fetchone()[0]
        tables = set(db.execute("SELECT name, sql FROM sqlite_master"))
        has_tables = _tables() <= tables
        if version > SCHEMA_VERSION and not has_tables:
            raise OutboxError(
                f"{self._path} was written by a newer defectd (format {version}, this one knows {SCHEMA_VERSION}): "
                "install that version again, or move the file away"
            )
        fault = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if fault != "ok":
            raise DamagedError(fault)
        if is_empty or (version == 0 and not tables and not found.has_side_files):
            return
        if version != SCHEMA_VERSION or not has_tables:
            raise DamagedError("its tables are not those of an outbox")
        last_seq = _counter(db)[0]
        lowest, highest = db.execute(
            "SELECT min(seq), max(seq) FROM (SELECT seq FROM event UNION ALL SELECT seq FROM dead)"
        ).fetchone()
        if lowest is not None and not (lowest > 0 and highest <= last_seq):
            raise DamagedError("the counter and the rows contradict each other")
        # The integrity check finds no entry too many in a partial index: the trace of a row that seems delivered.
        query = "SELECT count(*) FROM event {} WHERE delivered_ns IS NULL"
        counts = [db.execute(query.format(how)).fetchone() for how in ("INDEXED BY event_waiting", "NOT INDEXED")]
        if counts[0] != counts[1]:
            raise DamagedError("the index of waiting events and the rows contradict each other")

    def _lost(
        self, db: sqlite3.Connection, last_seq: int, found: _Evidence, *, is_new: bool, power_cut: bool
    ) -> list[Loss]:
        """The numbers that may have been used but are not in the database."""
        mark = found.mark
        if mark is not None and mark.is_exact(self._boot):
            losses = []
            (newest,) = db.execute(
                "SELECT max(seq) FROM (SELECT max(seq) AS seq FROM event UNION ALL SELECT max(seq) FROM dead)"
            ).fetchone()
            pending = pending_loss(db)
            known = max(newest or 0, mark.used, 0 if pending is None else pending.last_seq)
            if known < last_seq and not is_new:  # the counter is ahead of everything that is known to be used
                losses.append(_loss(known, last_seq, "damaged"))
            if last_seq < mark.stored:
                losses.append(_loss(last_seq, mark.stored, "damaged"))
            if max(last_seq, mark.stored) < mark.used:
                losses.append(_loss(max(last_seq, mark.stored), mark.used, "memory"))
            return losses
        if not found.has_side_files:
            return []
        ceiling = self._ceiling(found)
        is_behind = mark is not None and last_seq < mark.used
        is_older = last_seq + 2 * SEQ_BLOCK < found.reserved  # one block ahead is normal, one more after a rollback
        is_unclean = found.wal.is_suspect or (found.has_bad_mark and found.wal.is_used)
        if last_seq >= ceiling or not (is_new or is_behind or is_older or is_unclean or power_cut):
            return []
        log.warning(
            "%s ends at seq %d but numbers up to %d may have been sent: the count continues from there",
            self._path,
            last_seq,
            ceiling,
        )
        return [_loss(last_seq, ceiling, "power" if power_cut else "damaged")]

    def _evidence(self) -> _Evidence:
        """Raises OSError."""
        found = wal.read(self._path.with_name(self._path.name + "-wal"))
        has_side_files = self._sequence.exists or self._mark.exists
        mark = self._mark.read()
        return _Evidence(found, mark, self._sequence.read(), mark is None and self._mark.exists, has_side_files)

    def _ceiling(self, found: _Evidence) -> int:
        """The newest number that may have been used."""
        if found.mark is not None and found.mark.is_exact(self._boot):
            return found.mark.used
        if not found.reserved:
            return self._clock.wall_ns() // NS_PER_MS  # milliseconds since 1970 are above any count so far
        return max(found.reserved, 0 if found.mark is None else found.mark.used)

    def _second(self) -> int:
        return self._clock.wall_ns() // NS_PER_S

    def _clear_the_way(self) -> None:
        """Move aside what lies in the place of a file and is none, such as a folder or a FIFO.  Raises OSError."""
        for suffix in SUFFIXES:
            path = self._path.with_name(self._path.name + suffix)
            try:
                is_file = stat.S_ISREG(path.stat().st_mode)
            except FileNotFoundError:
                continue
            if not is_file:
                aside = salvage.unused(path, self._second())
                log.error("%s is not a file: moved to %s", path, aside.name)
                path.rename(aside)


def _loss(after: int, last: int, cause: LossCause) -> Loss:
    return Loss(after + 1, last, last - after, cause)


def _counter(db: sqlite3.Connection) -> tuple[int, str, int]:
    """Raises DamagedError."""
    match db.execute("SELECT last_seq, boot_id, risky FROM counter").fetchall():
        case [(int(last_seq), str(boot), int(risky))] if 0 <= last_seq < MAX_SEQ:
            return last_seq, boot, risky
        case _:
            raise DamagedError("the counter is not readable")


@cache
def _tables() -> frozenset[tuple[str, str]]:
    """Name and definition of all tables and indexes of an outbox, as SQLite stores them."""
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(TABLES)
        return frozenset(db.execute("SELECT name, sql FROM sqlite_master"))
