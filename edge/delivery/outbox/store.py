"""The outbox: keeps every event on disk until the broker has confirmed it, through `kill -9` and broker outages.

One connection, one lock. The recorder thread appends; the publisher thread peeks, acknowledges and refuses. A commit
delays the other thread by a few milliseconds at most, and the inspection loop never calls the outbox.

The outbox counts `seq` in the same transaction as the row, so it has no gap after a rollback, a restart or a deletion.
It never repeats either: two side files know which numbers were used (`sequence.py`, `watermark.py`). When the database
is lost, damaged or older than they are, the count continues above them, and an `events.dropped` event reports the jump.

A connection that fails is closed, and the next call opens the database anew: no error lasts longer than its cause.

Appending is synced to the disk (`durability: full`). Acknowledging is not: if a power cut takes an acknowledgement
back, the publisher only sends that event twice.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from edge.delivery.outbox import dead_letters, limits
from edge.delivery.outbox.limits import Limits, MakeLossDraft
from edge.delivery.outbox.reader import ReaderHolds, rows_after
from edge.delivery.outbox.recovery import DatabaseFile
from edge.delivery.outbox.rows import (
    SELECT_ROW,
    DeadLetter,
    Draft,
    Loss,
    Row,
    Totals,
    clear_pending,
    encoded,
    insert_waiting,
    is_intact,
    put_pending,
    waiting_bytes,
)
from edge.delivery.outbox.sequence import SequenceFile
from edge.delivery.outbox.sqlite_errors import DamagedError, ends_connection, is_damage, translated
from edge.delivery.outbox.watermark import Watermark
from edge.errors import OutboxError
from edge.host.clock import Clock, boot_id

log = logging.getLogger(__name__)

MIB: Final = 1024 * 1024


class Outbox:
    """Events in the order of `seq`, until the broker has confirmed each.

    path: the database; the outbox creates its directory.  max_rows, max_bytes: limits for the undelivered events and
    for their payload (None: no limit); above either it drops the oldest events of severity info, and when there is
    none, the oldest.  keep_delivered: confirmed events kept for `defectd events`.  boot: id of this boot; None: ask the
    kernel.  max_dead: dead letters kept; above that the oldest go.  An events.dropped event reports whatever goes.
    Every method may be called from any thread.
    Raises OutboxError when the database is unusable; `append` stores all of its drafts or none.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_rows: int,
        max_bytes: int | None = None,
        keep_delivered: int,
        durability: Literal["full", "normal"],
        clock: Clock,
        boot: str | None = None,
        max_dead: int = dead_letters.MAX_DEAD,
    ) -> None:
        self._path = path
        self._limits = Limits(max_rows, max_bytes, keep_delivered)
        self._max_dead = max_dead
        self._synchronous = durability.upper()
        self._clock = clock
        self._lock = threading.RLock()
        self._boot = boot or boot_id()
        self._sequence = SequenceFile(path)
        self._mark = Watermark(path)
        self._file = DatabaseFile(path, self._sequence, self._mark, clock, self._boot, is_synced=durability == "full")
        self._holds = ReaderHolds()
        self._make_draft: MakeLossDraft | None = None
        self._has_returned = False
        """Dead letters wait again, and `has_returned` has not reported that yet."""
        self._is_closed = False
        self._damage: sqlite3.Error | None = None
        """Why the database must be replaced, not only opened anew."""
        self._totals = Totals(0)
        self._unreported: Loss | None = None
        self._given_up: Loss | None = None
        """The part of `_unreported` that only the mark knows, not the database."""
        self._data_version = 0
        """Changes when another process has written to the database."""
        self._db: sqlite3.Connection | None = None
        self._connection()

    # ---- for the recorder ------------------------------------------------------------------------

    def report_losses_by(self, make_draft: MakeLossDraft) -> None:
        """Set how to make the event that reports a loss. Without it the outbox only logs and counts losses."""
        self._make_draft = make_draft

    def append(self, drafts: Sequence[Draft]) -> tuple[int, ...]:
        """Store all drafts or none, in one commit; returns their `seq`.

        Raises OutboxError when the disk does not take them, ValueError when a payload is not JSON.
        """
        if not drafts:
            return ()
        make_draft = self._make_draft
        with self._writing(self._synchronous) as db:
            before = self._totals
            first = before.last_seq + 1
            last = before.last_seq + len(drafts)
            self._sequence.reserve(last + 2)  # two more than needed: losses of two causes may need a row each
            now_ns = self._clock.wall_ns()
            rows = [
                Row(seq, d.event_id, d.topic, d.severity, encoded(d.payload, seq), now_ns)
                for seq, d in enumerate(drafts, start=first)
            ]
            insert_waiting(db, rows)
            totals = replace(
                before,
                last_seq=last,
                waiting=before.waiting + len(rows),
                waiting_bytes=before.waiting_bytes + sum(len(row.payload) for row in rows),
            )
            if make_draft is not None and self._unreported is not None:
                totals = limits.report(db, totals, self._unreported, make_draft, now_ns)
                clear_pending(db)
            totals = limits.trim(db, totals, self._limits, make_draft, now_ns)
            db.execute("UPDATE counter SET last_seq = ?", (totals.last_seq,))
            self._commit(db, totals, is_reported=make_draft is not None)
        if totals.dropped > before.dropped == 0:
            log.warning(
                "the outbox is full with %d undelivered events of %.1f MiB: from now on it drops the least severe and"
                " oldest",
                totals.waiting,
                totals.waiting_bytes / MIB,
            )
        return tuple(row.seq for row in rows)

    # ---- for the publisher -----------------------------------------------------------------------

    def peek(self, after_seq: int, limit: int) -> tuple[Row, ...]:
        """The next undelivered events after `after_seq`, oldest first."""
        query = f"{SELECT_ROW} FROM event WHERE delivered_ns IS NULL AND seq > ? ORDER BY seq LIMIT ?"
        with self._reading() as db:
            found = db.execute(query, (after_seq, limit)).fetchall()
            if not all(is_intact(values) for values in found):
                raise DamagedError("an event is not readable")
            rows = tuple(Row(*values) for values in found)
            open_loss = self._totals.open_loss
            if open_loss and rows and rows[-1].seq >= open_loss[0]:
                # The publisher may send the row now: its payload must stay as it is.
                self._totals = replace(self._totals, open_loss=None)
        return rows

    def ack(self, seqs: Iterable[int]) -> int:
        """Mark events as delivered; returns how many were still waiting."""
        marks = [(self._clock.wall_ns(), seq) for seq in dict.fromkeys(seqs)]
        if not marks:
            return 0
        with self._writing("NORMAL") as db:
            done_bytes = sum(waiting_bytes(db, seq) for _, seq in marks)
            done: int = db.executemany(
                "UPDATE event SET delivered_ns = ? WHERE seq = ? AND delivered_ns IS NULL", marks
            ).rowcount
            totals = replace(
                self._totals,
                waiting=self._totals.waiting - done,
                waiting_bytes=self._totals.waiting_bytes - done_bytes,
                delivered=self._totals.delivered + done,
            )
            totals, lost_seqs = limits.prune(db, totals, self._limits, self._holds.lowest())
            self._commit(db, totals)
            self._holds.count_lost(lost_seqs)
        return done

    def refuse(self, seq: int, code: int, reason: str) -> bool:
        """Move an event that the broker rejects for good to the dead letters; False if it was not waiting.

        code: MQTT reason code, or 0. An events.dropped event reports the gap that this leaves in `seq`, unless the
        refused event is itself an events.dropped event.
        """
        with self._writing("NORMAL") as db:
            now_ns = self._clock.wall_ns()
            size_bytes = waiting_bytes(db, seq)
            if not dead_letters.move_waiting(db, seq, now_ns, code, reason):
                db.execute("ROLLBACK")
                return False
            totals = replace(
                self._totals,
                waiting=self._totals.waiting - 1,
                waiting_bytes=self._totals.waiting_bytes - size_bytes,
                refused=self._totals.refused + 1,
            )
            make_draft = self._make_draft
            self._sequence.reserve(totals.last_seq + 2)
            discarded = dead_letters.prune(db, totals.refused, self._max_dead)
            if discarded is not None:
                totals = replace(
                    totals, refused=totals.refused - discarded.count, dropped=totals.dropped + discarded.count
                )
                if make_draft is not None:
                    totals = limits.report(db, totals, discarded, make_draft, now_ns)
            was_report = db.execute("DELETE FROM loss WHERE seq = ?", (seq,)).rowcount
            if not was_report and make_draft is not None:
                totals = limits.report(db, totals, Loss(seq, seq, 1, "refused"), make_draft, now_ns)
            db.execute("UPDATE counter SET last_seq = ?", (totals.last_seq,))
            self._commit(db, totals)
        if discarded is not None:
            log.warning(
                "there are more than %d dead letters: %d of the oldest are deleted (seq %d to %d)",
                self._max_dead,
                discarded.count,
                discarded.first_seq,
                discarded.last_seq,
            )
        return True

    def has_returned(self) -> bool:
        """Whether dead letters wait again since the last call, by `retry` here or in another process.

        They keep their `seq`, which is below what `peek` returned already.  Recounts when another process has written.
        """
        with self._reading() as db:
            waiting = self._totals.waiting
            version = _data_version(db)
            if self._data_version != version:
                self._data_version = version
                self._totals = self._totals.counted(db)
                self._mark.note(db, self._totals.last_seq, self._boot)
            returned = self._has_returned or self._totals.waiting > waiting
            self._has_returned = False
        return returned

    # ---- for commands ----------------------------------------------------------------------------

    def dead_letters(self, limit: int) -> tuple[DeadLetter, ...]:
        """The oldest `limit` refused events."""
        with self._reading() as db:
            return dead_letters.oldest(db, limit)

    def retry(self, seqs: Sequence[int] | None) -> int:
        """Let refused events wait for delivery again, under their old `seq`; returns how many.  None: all."""
        with self._writing("NORMAL") as db:
            done = dead_letters.put_back(db, seqs)
            totals = replace(
                self._totals,
                waiting=self._totals.waiting + done,
                waiting_bytes=waiting_bytes(db),  # rare enough to recount
                refused=self._totals.refused - done,
            )
            self._commit(db, totals)
            self._has_returned = self._has_returned or done > 0
        return done

    def discard(self, seqs: Sequence[int] | None) -> int:
        """Delete refused events for good; returns how many.  None: all.  `refuse` has already reported their gaps."""
        with self._writing("NORMAL") as db:
            done = dead_letters.delete(db, seqs)
            self._commit(db, replace(self._totals, refused=self._totals.refused - done))
        return done

    # ---- for further readers ---------------------------------------------------------------------

    def after(self, seq: int, limit: int) -> tuple[Row, ...]:
        """The next events after `seq`, waiting, delivered or refused, oldest first.

        The outbox may still widen the newest events.dropped event after it was read here: only `peek` fixes its
        payload. Otherwise each loss would become an event of its own while a further reader exists.
        """
        with self._reading() as db:
            return rows_after(db, seq, limit)

    def hold(self, reader: str, after_seq: int) -> None:
        """Keep the delivered events above `after_seq` for `reader`, as far as `max_rows` allows.

        The lowest number of all readers counts, until `release` or the end of the process.
        """
        with self._lock:
            self._holds.hold(reader, after_seq)

    def release(self, reader: str) -> None:
        """Keep nothing for `reader` any more; safe when it never held."""
        with self._lock:
            self._holds.release(reader)

    @property
    def lost_by_readers(self) -> Mapping[str, int]:
        """By reader: delivered events deleted because of `max_rows` before the reader had come past them."""
        with self._lock:
            return self._holds.lost

    # ---- for everyone ----------------------------------------------------------------------------

    def depth(self) -> int:
        """Undelivered events."""
        return self._totals.waiting

    @property
    def last_seq(self) -> int:
        """The newest number in use; 0 before the first."""
        return self._totals.last_seq

    @property
    def dropped(self) -> int:
        """Events dropped because the outbox was full, since this start."""
        return self._totals.dropped

    @property
    def refused(self) -> int:
        """Dead letters kept."""
        return self._totals.refused

    def give_up(self, count: int) -> bool:
        """Give numbers to events that cannot be stored before a stop; the next start reports them as lost.

        Needs no room on the disk.  False when even the mark cannot be written: the loss is then only in the log.
        """
        with self._lock:
            known = self._mark.progress
            if known is None or count <= 0:
                return count <= 0
            used = max(known.used, self._totals.last_seq) + count
            try:
                self._mark.write(replace(known, used=used), is_synced=True)
            except OSError as error:
                log.error("%s: %s", self._path, error)  # noqa: TRY400 (the message holds the cause)
                return False
            loss = Loss(used - count + 1, used, count, "memory")
            self._unreported = loss if self._unreported is None else self._unreported.merged(loss)
            self._given_up = loss if self._given_up is None else self._given_up.merged(loss)
            self._totals = replace(self._totals, last_seq=used)
        return True

    def close(self) -> None:
        """Always safe. The next start also opens a database that a crash left open."""
        with self._lock:
            self._is_closed = True
            if self._db is None:
                return
            try:
                self._db.execute("UPDATE counter SET risky = 0")
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.Error:
                pass  # the disk is gone: no event is lost by it
            _close(self._db)
            self._db = None
            if self._mark.progress is not None:
                with contextlib.suppress(OSError):
                    self._mark.write(replace(self._mark.progress, closed=True), is_synced=True)
            self._mark.close()

    # ---- transactions ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _writing(self, synchronous: str) -> Iterator[sqlite3.Connection]:
        """A write transaction, which the body commits by `_commit`; rolled back when the body fails."""
        with self._lock:
            db = self._connection()
            try:
                db.execute(f"PRAGMA synchronous={synchronous}")  # allowed between transactions, costs microseconds
                db.execute("BEGIN IMMEDIATE")
                yield db
            except sqlite3.Error as error:
                _roll_back(db)
                self._give_up_connection(error)
                raise translated(error, self._path) from error
            except OSError as error:
                _roll_back(db)
                raise OutboxError(f"{self._path}: {error}") from error
            except BaseException:
                _roll_back(db)
                raise

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            db = self._connection()
            try:
                yield db
            except sqlite3.Error as error:
                self._give_up_connection(error)
                raise translated(error, self._path) from error

    def _commit(self, db: sqlite3.Connection, totals: Totals, *, is_reported: bool = False) -> None:
        """is_reported: an event of this transaction reports all that was not reported yet."""
        if self._given_up is not None and not is_reported:
            put_pending(db, self._given_up)
            db.execute("UPDATE counter SET last_seq = ?", (totals.last_seq,))
        db.execute("COMMIT")
        self._given_up = None
        self._unreported = None if is_reported else self._unreported
        self._totals = totals
        self._mark.note(db, totals.last_seq, self._boot)

    def _connection(self) -> sqlite3.Connection:
        """The open database; opened anew, or replaced, when the last call found it unusable.  Raises OutboxError."""
        if self._is_closed:
            raise OutboxError(f"{self._path} is closed")
        if self._db is None:
            opened = self._file.open() if self._damage is None else self._file.replace(self._damage)
            self._db, self._damage = opened.db, None
            self._totals = replace(opened.totals, dropped=self._totals.dropped)
            self._unreported = opened.unreported
            self._data_version = _data_version(opened.db)
            self._mark.note(opened.db, opened.totals.last_seq, self._boot)
        return self._db

    def _give_up_connection(self, error: sqlite3.Error) -> None:
        """Close a connection that may never work again, so that the next call opens the database anew."""
        if self._db is not None and ends_connection(error):
            _close(self._db)
            self._db = None
            self._damage = error if is_damage(error) else None


def _close(db: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):
        db.close()


def _roll_back(db: sqlite3.Connection) -> None:
    try:
        if db.in_transaction:
            db.execute("ROLLBACK")
    except sqlite3.Error:
        pass  # the caller raises the first error


def _data_version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA data_version").fetchone()[0])
