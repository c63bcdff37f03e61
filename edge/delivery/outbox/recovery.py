"""Opens the database of the outbox, and replaces it when it is damaged, without repeating a number."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge.delivery.outbox.rows import (
    SCHEMA_VERSION,
    SELECT_ROW,
    TABLES,
    VICTIM_INDEX,
    Loss,
    LossCause,
    Row,
    Totals,
    insert_waiting,
)
from edge.delivery.outbox.sequence import SEQ_BLOCK, SequenceFile
from edge.delivery.outbox.sqlite_errors import DamagedError, is_damage, translated
from edge.errors import OutboxError
from edge.host.clock import NS_PER_MS, NS_PER_S, Clock

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """An open database.  unreported: numbers that this opening found lost."""

    db: sqlite3.Connection
    totals: Totals
    unreported: Loss | None


class DatabaseFile:
    """The database file of one outbox.  The lock of the outbox guards it."""

    def __init__(self, path: Path, sequence: SequenceFile, clock: Clock, boot: str, *, is_synced: bool) -> None:
        """boot: id of this boot.  is_synced: whether each append is synced to the disk."""
        self._path = path
        self._sequence = sequence
        self._clock = clock
        self._boot = boot
        self._is_synced = is_synced

    def open(self) -> Opened:
        """Open the database, create it, or replace it when it is damaged.  Raises OutboxError."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise OutboxError(f"{self._path.parent}: cannot be created: {error.strerror}") from error
        try:
            return self._open()
        except sqlite3.Error as error:
            if not is_damage(error):
                raise translated(error, self._path) from error
            return self.replace(error)

    def replace(self, damage: sqlite3.Error) -> Opened:
        """Move the damaged files aside, open a new database, and copy the waiting events that are still readable.

        No connection to the damaged files may be open.  Raises OutboxError.
        """
        aside = self._move_aside()
        last_seq, rows = _salvage(aside)
        reserved = self._sequence.read()
        if last_seq is None and not reserved:
            # Neither the counter nor the side file is readable: milliseconds since 1970 are above any count so far.
            reserved = self._clock.wall_ns() // NS_PER_MS
        newest_saved = rows[-1].seq if rows else 0
        newest = max(last_seq or 0, newest_saved, reserved)
        try:
            opened = self._open()
            opened.db.execute("BEGIN IMMEDIATE")
            insert_waiting(opened.db, rows)
            opened.db.execute("UPDATE counter SET last_seq = ?", (newest,))
            totals = Totals(newest).counted(opened.db)
            opened.db.execute("COMMIT")
        except sqlite3.Error as error:
            raise translated(error, self._path) from error
        log.error(
            "%s is damaged (%s): moved to %s; %d undelivered events were saved from it, the count continues at seq %d",
            self._path,
            damage,
            aside.name,
            len(rows),
            newest + 1,
        )
        if newest_saved == newest:
            return replace(opened, totals=totals)
        return Opened(opened.db, totals, Loss(newest_saved + 1, newest, newest - newest_saved, "damaged"))

    def _open(self) -> Opened:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))  # sets the mode before the first byte is written
        db = sqlite3.connect(self._path, timeout=5.0, isolation_level=None, check_same_thread=False)
        try:
            return self._set_up(db)
        except BaseException:
            db.close()
            raise

    def _set_up(self, db: sqlite3.Connection) -> Opened:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA journal_size_limit=4194304")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise OutboxError(
                f"{self._path} was written by a newer defectd (format {version}, this one knows {SCHEMA_VERSION}): "
                "install that version again, or move the file away"
            )
        damage = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok":
            raise DamagedError(damage)
        reserved = self._sequence.read()
        db.execute("BEGIN IMMEDIATE")
        if version == 0:
            for statement in TABLES.split(";"):
                db.execute(statement)
            db.execute("INSERT INTO counter VALUES (1, 0, '', 0)")
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        last_seq, boot, risky = db.execute("SELECT last_seq, boot_id, risky FROM counter").fetchone()
        db.execute(VICTIM_INDEX)
        lost = self._lost_before(last_seq, reserved, is_new=version == 0, power_cut=bool(risky) and boot != self._boot)
        last_seq = last_seq if lost is None else lost.last_seq
        db.execute(
            "UPDATE counter SET last_seq = ?, boot_id = ?, risky = ?",
            (last_seq, self._boot, int(not self._is_synced)),
        )
        db.execute("COMMIT")
        return Opened(db, Totals(last_seq).counted(db), lost)

    def _lost_before(self, last_seq: int, reserved: int, *, is_new: bool, power_cut: bool) -> Loss | None:
        """The numbers that may have been used but are not in the database.

        A block ahead is normal for the side file, and one group more after a rollback. If the file is further ahead, a
        newer database used the numbers; if the database is new, a deleted one used them.
        """
        is_older = last_seq + 2 * SEQ_BLOCK < reserved or is_new
        if last_seq >= reserved or not (is_older or power_cut):
            return None
        log.warning(
            "%s ends at seq %d but numbers up to %d may have been sent: the count continues from there",
            self._path,
            last_seq,
            reserved,
        )
        cause: LossCause = "power" if power_cut else "damaged"
        return Loss(last_seq + 1, reserved, reserved - last_seq, cause)

    def _move_aside(self) -> Path:
        aside = self._path.with_name(f"{self._path.name}.damaged-{self._clock.wall_ns() // NS_PER_S}")
        for suffix in ("", "-wal", "-shm"):
            part = self._path.with_name(self._path.name + suffix)
            with contextlib.suppress(FileNotFoundError):
                part.rename(aside.with_name(aside.name + suffix))
        return aside


def _salvage(path: Path) -> tuple[int | None, list[Row]]:
    """The counter and the waiting events of a damaged database, as far as they are readable."""
    last_seq: int | None = None
    rows: list[Row] = []
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=1.0, isolation_level=None)) as db:
            with contextlib.suppress(sqlite3.Error, TypeError, ValueError):
                last_seq = int(db.execute("SELECT last_seq FROM counter").fetchone()[0])
            # NOT INDEXED reads the table itself: then only one structure has to be intact instead of two.
            query = f"{SELECT_ROW} FROM event NOT INDEXED WHERE delivered_ns IS NULL ORDER BY seq"
            for values in db.execute(query):  # one by one: keeps the rows before the damage
                if _is_intact(values):
                    rows.append(Row(*values))  # noqa: PERF401
    except sqlite3.Error as error:
        log.debug("the damaged database is readable up to here: %s", error)
    return last_seq, rows


def _is_intact(values: tuple[Any, ...]) -> bool:
    """Whether a salvaged row is consistent with its own payload."""
    try:
        payload = json.loads(values[4])
        return bool(payload["seq"] == values[0] and payload["event_id"] == values[1] and isinstance(values[5], int))
    except (TypeError, ValueError, KeyError):
        return False
