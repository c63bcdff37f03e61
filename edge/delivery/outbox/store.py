"""The event store, and the only door to sqlite3: what is in here survives `kill -9` and a broker that is away.

One connection, one lock. The recorder thread appends, the publisher thread peeks, acknowledges and refuses; a
commit costs the other at most a few milliseconds, and inspection never comes here.

`seq` is counted in the same transaction as the row, so it has no gap after a rollback, a restart or a deletion.
It never repeats either: a small file beside the database (`<name>.seq`) says below which number everything may
have been used, and is moved ahead in blocks *before* a number in the block is given. When the database is lost,
damaged or older than that file, counting goes on from there, and the jump is told by an `events.dropped` event.

Appending is synced to the disk (`durability: full`). Acknowledging is not: an acknowledgement that a power cut
takes back only sends an event twice.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from edge.delivery.outbox.reader import ReaderHolds
from edge.errors import OutboxError
from edge.event import Severity
from edge.host import atomic_files
from edge.host.clock import NS_PER_S, Clock, boot_id, stamp

log = logging.getLogger(__name__)

SCHEMA_VERSION: Final = 1
SEQ_BLOCK: Final = 1000
"""Numbers reserved at a time in the side file: one small synced write per block."""
PRUNE_BATCH: Final = 256
"""Delivered rows above `keep_delivered` before they are deleted together."""
MAX_DEAD: Final = 10_000
"""Refused events that are kept."""
LOSS_ROOM_BYTES: Final = 2048
"""Made free for the events.dropped event that tells what had to go: more than it needs."""
MIB: Final = 1024 * 1024

State = Literal["waiting", "delivered", "refused"]

_TABLES = """
CREATE TABLE counter (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    last_seq INTEGER NOT NULL,
    boot_id TEXT NOT NULL,   -- of the last opening
    risky INTEGER NOT NULL   -- 1: open without a sync per commit, so that a power cut may have taken rows back
);
CREATE TABLE event (
    seq INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL,
    topic TEXT NOT NULL,
    severity TEXT NOT NULL,
    payload BLOB NOT NULL,   -- compact JSON, as sent
    stored_ns INTEGER NOT NULL,
    delivered_ns INTEGER     -- NULL: not acknowledged yet
);
CREATE INDEX event_waiting ON event (seq) WHERE delivered_ns IS NULL;
CREATE TABLE loss (          -- the range told by an events.dropped row
    seq INTEGER PRIMARY KEY,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    count INTEGER NOT NULL,
    cause TEXT NOT NULL
);
CREATE TABLE dead (
    seq INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL,
    topic TEXT NOT NULL,
    severity TEXT NOT NULL,
    payload BLOB NOT NULL,
    stored_ns INTEGER NOT NULL,
    refused_ns INTEGER NOT NULL,
    code INTEGER NOT NULL,   -- MQTT reason code, or 0
    reason TEXT NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class Draft:
    """An event on its way into the outbox. payload: JSON values, with `seq` 0."""

    topic: str
    payload: dict[str, Any]
    event_id: str
    severity: Severity = "info"


@dataclass(frozen=True, slots=True)
class Row:
    """An event that waits for delivery. payload: compact JSON, UTF-8. stored_ns: wall time."""

    seq: int
    event_id: str
    topic: str
    severity: Severity
    payload: bytes
    stored_ns: int


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as the box remembers it. Times are wall time; settled_ns: when delivered or refused."""

    seq: int
    event_id: str
    topic: str
    severity: Severity
    payload: bytes
    stored_ns: int
    state: State
    settled_ns: int | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that the broker will not take. Times are wall time."""

    seq: int
    event_id: str
    topic: str
    payload: bytes
    stored_ns: int
    refused_ns: int
    code: int
    """MQTT reason code, or 0."""
    reason: str


@dataclass(frozen=True, slots=True)
class Statistics:
    """How a store stands.  oldest_waiting: UTC, "" when nothing waits."""

    last_seq: int
    waiting: int
    waiting_bytes: int
    oldest_waiting: str
    delivered: int
    refused: int


@dataclass(frozen=True, slots=True)
class Loss:
    """Numbers that no subscriber will see, bounds included.

    count: how many of the range; for the causes `damaged` and `power` the most that it can be.
    """

    first_seq: int
    last_seq: int
    count: int
    cause: str
    """full: they went for lack of room; refused: the broker will not have it; damaged, power: the store."""

    def merged(self, other: Loss) -> Loss:
        return Loss(
            first_seq=min(self.first_seq, other.first_seq),
            last_seq=max(self.last_seq, other.last_seq),
            count=self.count + other.count,
            cause=self.cause if self.cause == other.cause else "several",
        )


class Outbox:
    """Events in the order of `seq`, until the broker has confirmed each.

    path: the database; its directory is made if it is missing.  max_rows, max_bytes: most undelivered events and most
    of their payload (None: any); above either the oldest events of severity info go, and when none is left, the oldest.
    keep_delivered: confirmed events kept for `defectd events`.  Every method may be called from any thread.
    Raises OutboxError when the store cannot be used; `append` has stored all of its drafts or none.
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
    ) -> None:
        self._path = path
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._keep_delivered = keep_delivered
        self._synchronous = durability.upper()
        self._clock = clock
        self._lock = threading.RLock()
        self._make_loss: Callable[[Loss], Draft] | None = None
        self._untold: Loss | None = None
        self._open_loss: tuple[int, Loss] | None = None
        """The newest events.dropped row while it was not handed out by `peek`: it may still be widened."""
        self._recovered_from: Path | None = None
        self._holds = ReaderHolds()
        self._data_version: int | None = None
        """SQLite's word for "another process has written"."""
        self._has_returned = False
        """Dead letters wait again, and nobody was told yet."""
        self._dropped = 0
        self._last_seq = self._reserved = self._depth = self._waiting_bytes = self._delivered = self._refused = 0
        self._db = self._open_or_replace()

    # ---- what the recorder calls -----------------------------------------------------------------

    def tell_losses_by(self, make: Callable[[Loss], Draft]) -> None:
        """Set what words a loss. Without it losses are logged and counted only."""
        self._make_loss = make

    def append(self, drafts: Sequence[Draft]) -> tuple[int, ...]:
        """Store all drafts or none, in one commit; returns their `seq`.

        Raises OutboxError when the disk will not have them, ValueError when a payload is not JSON.
        """
        if not drafts:
            return ()
        with self._writing(self._synchronous) as db:
            first = self._last_seq + 1
            last = first + len(drafts) - 1
            self._reserve(last + 2)  # two more than needed: losses of two causes may have to be told
            now = self._clock.wall_ns()
            payloads = [_encoded(d.payload, seq) for seq, d in enumerate(drafts, start=first)]
            db.executemany(
                "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, NULL)",
                [
                    (seq, d.event_id, d.topic, d.severity, payload, now)
                    for seq, (d, payload) in enumerate(zip(drafts, payloads, strict=True), start=first)
                ],
            )
            changes = _Changes(
                last_seq=last,
                depth=self._depth + len(drafts),
                waiting_bytes=self._waiting_bytes + sum(map(len, payloads)),
                open_loss=self._open_loss,
            )
            changes = self._trim(db, self._tell(db, changes, self._untold))
            db.execute("UPDATE counter SET last_seq = ?", (changes.last_seq,))
            db.execute("COMMIT")
            dropped_before = self._dropped
            self._accept(changes)
            self._untold = None if self._make_loss else self._untold
        if self._dropped > dropped_before and dropped_before == 0:
            log.warning(
                "the outbox is full with %d undelivered events of %.1f MiB: from now on the least severe and oldest"
                " are dropped",
                self._depth,
                self._waiting_bytes / MIB,
            )
        return tuple(range(first, last + 1))

    # ---- what the publisher calls ----------------------------------------------------------------

    def peek(self, after_seq: int, limit: int) -> tuple[Row, ...]:
        """The next undelivered events after `after_seq`, oldest first."""
        with self._reading() as db:
            found = db.execute(
                "SELECT seq, event_id, topic, severity, payload, stored_ns FROM event"
                " WHERE delivered_ns IS NULL AND seq > ? ORDER BY seq LIMIT ?",
                (after_seq, limit),
            ).fetchall()
            rows = tuple(Row(*values) for values in found)
            if self._open_loss and rows and rows[-1].seq >= self._open_loss[0]:
                self._open_loss = None  # it may be on the wire now: what it says must stay as it is
        return rows

    def ack(self, seqs: Iterable[int]) -> int:
        """Mark events as delivered; returns how many were still waiting."""
        numbers = [(self._clock.wall_ns(), seq) for seq in dict.fromkeys(seqs)]
        if not numbers:
            return 0
        with self._writing("NORMAL") as db:
            done_bytes = sum(_waiting_bytes(db, seq) for _, seq in numbers)
            done: int = db.executemany(
                "UPDATE event SET delivered_ns = ? WHERE seq = ? AND delivered_ns IS NULL", numbers
            ).rowcount
            delivered = self._delivered + done
            gone, lost_seqs = self._prune(db, delivered)
            delivered -= gone
            db.execute("COMMIT")
            self._holds.count_lost(lost_seqs)
            self._delivered = delivered
            self._depth -= done
            self._waiting_bytes -= done_bytes
        return done

    def refuse(self, seq: int, code: int, reason: str) -> bool:
        """Move an event that the broker will never take to the dead letters; False if it was not waiting.

        code: MQTT reason code, or 0. The gap that this leaves in `seq` is told by an events.dropped event,
        but for the refusal of such an event itself.
        """
        with self._writing("NORMAL") as db:
            now = self._clock.wall_ns()
            size_bytes = _waiting_bytes(db, seq)
            done: int = db.execute(
                "INSERT OR REPLACE INTO dead SELECT seq, event_id, topic, severity, payload, stored_ns, ?, ?, ?"
                " FROM event WHERE seq = ? AND delivered_ns IS NULL",
                (now, code, reason, seq),
            ).rowcount
            if not done:
                db.execute("ROLLBACK")
                return False
            db.execute("DELETE FROM event WHERE seq = ?", (seq,))
            db.execute(
                "DELETE FROM dead WHERE seq IN (SELECT seq FROM dead ORDER BY seq DESC LIMIT -1 OFFSET ?)", (MAX_DEAD,)
            )
            changes = _Changes(
                last_seq=self._last_seq,
                depth=self._depth - 1,
                waiting_bytes=self._waiting_bytes - size_bytes,
                open_loss=self._open_loss,
            )
            is_loss = db.execute("DELETE FROM loss WHERE seq = ?", (seq,)).rowcount
            if not is_loss:
                self._reserve(changes.last_seq + 1)
                changes = self._tell(db, changes, Loss(seq, seq, 1, "refused"))
                db.execute("UPDATE counter SET last_seq = ?", (changes.last_seq,))
            db.execute("COMMIT")
            self._accept(changes)
            self._refused = min(self._refused + 1, MAX_DEAD)
        return True

    def has_returned(self) -> bool:
        """Whether dead letters wait again since the last call: put back here, or by another process.

        They have their old `seq`, below what was peeked already.  Counts anew when another process has written.
        """
        with self._reading() as db:
            version = int(db.execute("PRAGMA data_version").fetchone()[0])
            depth = self._depth
            if self._data_version != version:
                self._recount(db)
            returned = self._has_returned or self._depth > depth
            self._has_returned = False
        return returned

    # ---- what a command calls --------------------------------------------------------------------

    def dead_letters(self, limit: int) -> tuple[DeadLetter, ...]:
        """The oldest `limit` refused events."""
        with self._reading() as db:
            return _dead_letters(db, limit)

    def retry(self, seqs: Sequence[int] | None) -> int:
        """Let refused events wait for delivery again, under their old `seq`; returns how many.  None: all."""
        with self._writing("NORMAL") as db:
            done = _take_back(db, seqs)
            waiting_bytes = _waiting_bytes(db)  # rare enough to count anew
            db.execute("COMMIT")
            self._depth += done
            self._waiting_bytes = waiting_bytes
            self._refused -= done
            self._has_returned = self._has_returned or done > 0
        return done

    def discard(self, seqs: Sequence[int] | None) -> int:
        """Delete refused events for good; returns how many.  None: all.  Their gap in `seq` was told before."""
        with self._writing("NORMAL") as db:
            done = _throw_away(db, seqs)
            db.execute("COMMIT")
            self._refused -= done
        return done

    # ---- what a second reader calls --------------------------------------------------------------

    def after(self, seq: int, limit: int) -> tuple[Row, ...]:
        """The next events after `seq`, delivered, refused or not, oldest first.

        The newest events.dropped event may still be widened after it was read here: `peek` alone settles its words,
        or a reader that is always there would make each loss an event of its own.
        """
        columns = "SELECT seq, event_id, topic, severity, payload, stored_ns"
        with self._reading() as db:
            found = db.execute(
                f"{columns} FROM event WHERE seq > ?1 UNION ALL {columns} FROM dead WHERE seq > ?1"
                " ORDER BY seq LIMIT ?2",
                (seq, limit),
            ).fetchall()
        return tuple(Row(*values) for values in found)

    def hold(self, reader: str, after_seq: int) -> None:
        """Keep delivered events above `after_seq` for `reader`, as far as `max_rows` allows.

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
        """By reader: delivered events that `max_rows` let go before the reader had come past them."""
        with self._lock:
            return self._holds.lost

    # ---- what anyone may ask ---------------------------------------------------------------------

    def depth(self) -> int:
        """Undelivered events."""
        return self._depth

    def waiting_bytes(self) -> int:
        """Payload of the undelivered events."""
        return self._waiting_bytes

    def oldest_ns(self) -> int | None:
        """Wall time at which the oldest undelivered event was stored."""
        with self._reading() as db:
            found = db.execute("SELECT stored_ns FROM event WHERE delivered_ns IS NULL ORDER BY seq LIMIT 1").fetchone()
        return None if found is None else int(found[0])

    @property
    def last_seq(self) -> int:
        """The newest number given; 0 before the first."""
        return self._last_seq

    @property
    def dropped(self) -> int:
        """Events dropped for lack of room since this start."""
        return self._dropped

    @property
    def refused(self) -> int:
        """Dead letters kept."""
        return self._refused

    @property
    def recovered_from(self) -> Path | None:
        """Where a damaged database was moved to, if this start or run found one."""
        return self._recovered_from

    def history(self, since_wall_ns: int, limit: int) -> tuple[StoredEvent, ...]:
        """The newest `limit` events stored since then, oldest first."""
        with self._reading() as db:
            return _history(db, since_wall_ns, limit)

    def close(self) -> None:
        """Always safe. An open database left by a crash is as good as a closed one."""
        with self._lock:
            try:
                self._db.execute("UPDATE counter SET risky = 0")
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.Error:
                pass  # closing again, or the disk is gone: nothing is lost by it
            self._db.close()

    # ---- transactions ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _writing(self, synchronous: str) -> Iterator[sqlite3.Connection]:
        """A write transaction, which the body commits; rolled back when it fails."""
        with self._lock:
            db = self._db
            try:
                db.execute(f"PRAGMA synchronous={synchronous}")  # allowed between transactions, costs microseconds
                db.execute("BEGIN IMMEDIATE")
                yield db
            except sqlite3.Error as error:
                self._roll_back()
                self._replace_if_damaged(error)
                raise _translated(error, self._path) from error
            except OSError as error:
                self._roll_back()
                raise OutboxError(f"{self._path}: {error}") from error
            except BaseException:
                self._roll_back()
                raise

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                self._replace_if_damaged(error)
                raise _translated(error, self._path) from error

    def _roll_back(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error:
            pass  # the first error is the one to tell

    def _accept(self, changes: _Changes) -> None:
        """Take over what was committed."""
        self._last_seq = changes.last_seq
        self._depth = changes.depth
        self._waiting_bytes = changes.waiting_bytes
        self._open_loss = changes.open_loss
        self._dropped += changes.dropped

    # ---- losses ----------------------------------------------------------------------------------

    def _trim(self, db: sqlite3.Connection, changes: _Changes) -> _Changes:
        """Drop undelivered rows above the limits, and tell it in one row."""
        over = changes.depth - self._max_rows
        over_bytes = 0 if self._max_bytes is None else changes.waiting_bytes - self._max_bytes
        if over <= 0 and over_bytes <= 0:
            return changes
        victims = self._victims(db, over, over_bytes)
        if self._make_loss is not None:  # what tells it needs room too
            widens = changes.open_loss is not None and changes.open_loss[1].cause == "full"
            is_new = changes.open_loss is None or not widens or changes.open_loss[0] in victims
            room_bytes = 0 if self._max_bytes is None else LOSS_ROOM_BYTES
            victims = self._victims(db, over + is_new, over_bytes + room_bytes)
        marks = [(seq,) for seq in victims]
        told = {
            int(values[0]): Loss(*values[1:])
            for values in db.execute(
                "SELECT seq, first_seq, last_seq, count, cause FROM loss WHERE seq <= ?", (max(victims),)
            )
        }
        loss: Loss | None = None
        for seq in victims:
            one = Loss(seq, seq, 1, "full")
            if seq in told:  # what it told is told anew, and that it is gone itself
                one = replace(one.merged(told[seq]), cause="full")
            loss = one if loss is None else loss.merged(one)
        db.executemany("DELETE FROM event WHERE seq = ?", marks)
        db.executemany("DELETE FROM loss WHERE seq = ?", marks)
        if changes.open_loss and changes.open_loss[0] in victims:
            changes = replace(changes, open_loss=None)
        changes = replace(
            changes,
            depth=changes.depth - len(victims),
            waiting_bytes=changes.waiting_bytes - sum(victims.values()),
            dropped=changes.dropped + len(victims),
        )
        return self._tell(db, changes, loss)

    def _tell(self, db: sqlite3.Connection, changes: _Changes, loss: Loss | None) -> _Changes:
        """Word a loss in a row of its own, or widen the newest one while nobody has seen that."""
        if loss is None or self._make_loss is None:
            return changes
        if changes.open_loss is not None and changes.open_loss[1].cause == loss.cause:
            seq, known = changes.open_loss
            loss = known.merged(loss)
            draft = self._make_loss(loss)
            payload = _encoded(draft.payload, seq)
            growth_bytes = len(payload) - _waiting_bytes(db, seq)
            db.execute("UPDATE event SET event_id = ?, payload = ? WHERE seq = ?", (draft.event_id, payload, seq))
            changes = replace(changes, waiting_bytes=changes.waiting_bytes + growth_bytes)
        else:
            seq = changes.last_seq + 1
            draft = self._make_loss(loss)
            payload = _encoded(draft.payload, seq)
            db.execute(
                "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, NULL)",
                (seq, draft.event_id, draft.topic, draft.severity, payload, self._clock.wall_ns()),
            )
            changes = replace(
                changes,
                last_seq=seq,
                depth=changes.depth + 1,
                waiting_bytes=changes.waiting_bytes + len(payload),
            )
        db.execute(
            "INSERT OR REPLACE INTO loss VALUES (?, ?, ?, ?, ?)",
            (seq, loss.first_seq, loss.last_seq, loss.count, loss.cause),
        )
        return replace(changes, open_loss=(seq, loss))

    @staticmethod
    def _victims(db: sqlite3.Connection, count: int, total_bytes: int) -> dict[int, int]:
        """At least so many undelivered rows of at least so many bytes, if there are; their size by `seq`."""
        victims: dict[int, int] = {}
        taken_bytes = 0
        # In the first words both are constants of the index event_minor: no search through what stays.
        for which in ("severity = 'info'", "severity <> 'info'"):
            query = f"SELECT seq, length(payload) FROM event WHERE delivered_ns IS NULL AND {which} ORDER BY seq"  # noqa: S608
            with contextlib.closing(db.execute(query)) as found:
                for seq, size_bytes in found:
                    if len(victims) >= count and taken_bytes >= total_bytes:
                        return victims
                    victims[int(seq)] = int(size_bytes)
                    taken_bytes += int(size_bytes)
        return victims

    def _prune(self, db: sqlite3.Connection, delivered: int) -> tuple[int, tuple[int, ...]]:
        """Delete delivered events above `keep_delivered`.

        Returns how many, and the `seq` of those that went for lack of room although a reader held them.
        """
        over = delivered - self._keep_delivered
        if over < PRUNE_BATCH:
            return 0, ()
        oldest = "SELECT seq FROM event WHERE delivered_ns IS NOT NULL"
        lowest = self._holds.lowest()
        gone: int = db.execute(
            f"DELETE FROM event WHERE seq IN ({oldest} AND seq <= ? ORDER BY seq LIMIT ?)",
            (self._last_seq if lowest is None else lowest, over),
        ).rowcount
        too_many = delivered - gone - max(self._keep_delivered, self._max_rows)
        lost: tuple[int, ...] = ()
        if too_many > 0:
            lost = tuple(int(seq) for (seq,) in db.execute(f"{oldest} ORDER BY seq LIMIT ?", (too_many,)))
            db.executemany("DELETE FROM event WHERE seq = ?", [(seq,) for seq in lost])
        db.execute("DELETE FROM loss WHERE seq < (SELECT min(seq) FROM event)")
        return gone + len(lost), lost

    # ---- opening ---------------------------------------------------------------------------------

    def _open_or_replace(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise OutboxError(f"{self._path.parent}: cannot be made: {error.strerror}") from error
        try:
            return self._open()
        except sqlite3.Error as error:
            if not _is_damage(error):
                raise _translated(error, self._path) from error
            return self._start_anew(error)

    def _open(self) -> sqlite3.Connection:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))  # the mode is there before the first byte
        db = sqlite3.connect(self._path, timeout=5.0, isolation_level=None, check_same_thread=False)
        try:
            self._set_up(db)
        except BaseException:
            db.close()
            raise
        return db

    def _set_up(self, db: sqlite3.Connection) -> None:
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
            raise _Damaged(damage)
        reserved = self._read_reserved()
        db.execute("BEGIN IMMEDIATE")
        if version == 0:
            for statement in _TABLES.split(";"):
                db.execute(statement)
            db.execute("INSERT INTO counter VALUES (1, 0, '', 0)")
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        last_seq, boot, risky = db.execute("SELECT last_seq, boot_id, risky FROM counter").fetchone()
        now_boot = boot_id()
        rolled_back = bool(risky) and boot != now_boot
        # Finds what goes first when there is no room; not in _TABLES, so that older stores get it too.
        db.execute(
            "CREATE INDEX IF NOT EXISTS event_minor ON event (seq) WHERE delivered_ns IS NULL AND severity = 'info'"
        )
        # A block ahead is usual, and a group more after a rollback; what is further ahead was used by a newer
        # database, and what is ahead of a new one by one that was deleted.
        is_older = last_seq + 2 * SEQ_BLOCK < reserved or version == 0
        if last_seq < reserved and (is_older or rolled_back):
            cause = "power" if rolled_back else "damaged"
            self._untold = Loss(last_seq + 1, reserved, reserved - last_seq, cause)
            log.warning(
                "%s ends at seq %d but up to %d may have been sent: counting goes on from there",
                self._path,
                last_seq,
                reserved,
            )
            last_seq = reserved
        db.execute(
            "UPDATE counter SET last_seq = ?, boot_id = ?, risky = ?",
            (last_seq, now_boot, int(self._synchronous != "FULL")),
        )
        db.execute("COMMIT")
        self._last_seq = last_seq
        self._reserved = reserved
        self._recount(db)

    def _recount(self, db: sqlite3.Connection) -> None:
        self._data_version = int(db.execute("PRAGMA data_version").fetchone()[0])
        self._depth = _count(db, "event WHERE delivered_ns IS NULL")
        self._waiting_bytes = _waiting_bytes(db)
        self._delivered = _count(db, "event WHERE delivered_ns IS NOT NULL")
        self._refused = _count(db, "dead")

    def _replace_if_damaged(self, error: sqlite3.Error) -> None:
        """A store found damaged while running is replaced, so that the next attempt works."""
        if not _is_damage(error):
            return
        self._db.close()
        self._open_loss = None
        self._db = self._start_anew(error)

    def _start_anew(self, error: sqlite3.Error) -> sqlite3.Connection:
        """Move the damaged files aside, open a new store, and bring over what can still be read."""
        aside = self._path.with_name(f"{self._path.name}.damaged-{self._clock.wall_ns() // NS_PER_S}")
        for suffix in ("", "-wal", "-shm"):
            part = self._path.with_name(self._path.name + suffix)
            with contextlib.suppress(FileNotFoundError):
                part.rename(aside.with_name(aside.name + suffix))
        last_seq, rows = _salvage(aside)
        reserved = self._read_reserved()
        if last_seq is None and not reserved:
            # Neither the count nor the side file can be read: milliseconds since 1970 are above any count so far.
            reserved = self._clock.wall_ns() // 1_000_000
        try:
            db = self._open()
            known = max(last_seq or 0, rows[-1].seq if rows else 0)
            newest = max(known, reserved)
            db.execute("BEGIN IMMEDIATE")
            db.executemany(
                "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, NULL)",
                [(r.seq, r.event_id, r.topic, r.severity, r.payload, r.stored_ns) for r in rows],
            )
            db.execute("UPDATE counter SET last_seq = ?", (newest,))
            waiting_bytes = _waiting_bytes(db)
            db.execute("COMMIT")
        except sqlite3.Error as again:
            raise _translated(again, self._path) from again
        self._last_seq = newest
        self._depth = len(rows)
        self._waiting_bytes = waiting_bytes
        first_unknown = (rows[-1].seq if rows else 0) + 1
        if first_unknown <= newest:
            self._untold = Loss(first_unknown, newest, newest - first_unknown + 1, "damaged")
        self._recovered_from = aside
        log.error(
            "%s is damaged (%s): moved to %s; %d undelivered events were saved from it, counting goes on at seq %d",
            self._path,
            error,
            aside.name,
            len(rows),
            newest + 1,
        )
        return db

    # ---- the side file ---------------------------------------------------------------------------

    @property
    def _side_file(self) -> Path:
        return self._path.with_name(self._path.name + ".seq")

    def _read_reserved(self) -> int:
        try:
            return max(0, int(self._side_file.read_text("ascii")))
        except (OSError, ValueError):
            return 0

    def _reserve(self, seq: int) -> None:
        """See that the side file covers `seq` before it is used.  Raises OSError."""
        if seq <= self._reserved:
            return
        reserved = seq + SEQ_BLOCK
        atomic_files.replace(self._side_file, b"%d\n" % reserved)
        self._reserved = reserved


def read_events(path: Path, since_wall_ns: int, limit: int, *, only_refused: bool = False) -> tuple[StoredEvent, ...]:
    """What a store holds, read from another process while the daemon runs or not; nothing if there is none.

    The newest `limit` events stored since then, oldest first.  Raises OutboxError.
    """
    return _read(path, lambda db: _history(db, since_wall_ns, limit, only_refused=only_refused))


def read_statistics(path: Path) -> Statistics | None:
    """How a store stands, read from another process; None if there is none.  Raises OutboxError."""
    return next(iter(_read(path, lambda db: (_statistics(db),))), None)


def read_dead_letters(path: Path, limit: int) -> tuple[DeadLetter, ...]:
    """The oldest `limit` refused events of a store, read from another process.  Raises OutboxError."""
    return _read(path, lambda db: _dead_letters(db, limit))


def settle_dead_letters(path: Path, action: Literal["retry", "discard"], seqs: Sequence[int] | None) -> int:
    """`Outbox.retry` or `Outbox.discard` from another process, while the daemon runs or not.  Raises OutboxError.

    A daemon that runs sends what waits again within about a second.
    """
    if not path.exists():
        return 0
    try:
        # mode=rw: never makes a database.  The timeout is for the daemon's own transactions, milliseconds each.
        db = sqlite3.connect(f"file:{_uri(path)}?mode=rw", uri=True, timeout=5.0, isolation_level=None)
        with contextlib.closing(db):
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version != SCHEMA_VERSION:
                raise OutboxError(f"{path} has format {version}, this defectd knows {SCHEMA_VERSION}")
            db.execute("BEGIN IMMEDIATE")
            done = _take_back(db, seqs) if action == "retry" else _throw_away(db, seqs)
            db.execute("COMMIT")
            return done
    except sqlite3.Error as error:
        raise _translated(error, path) from error


Found = TypeVar("Found")


def _read(path: Path, query: Callable[[sqlite3.Connection], tuple[Found, ...]]) -> tuple[Found, ...]:
    if not path.exists():
        return ()
    try:
        db = _open_to_read(path)
        with contextlib.closing(db):
            if db.execute("PRAGMA user_version").fetchone()[0] == 0:
                return ()
            return query(db)
    except sqlite3.Error as error:
        raise _translated(error, path) from error


def _dead_letters(db: sqlite3.Connection, limit: int) -> tuple[DeadLetter, ...]:
    found = db.execute(
        "SELECT seq, event_id, topic, payload, stored_ns, refused_ns, code, reason FROM dead ORDER BY seq LIMIT ?",
        (limit,),
    ).fetchall()
    return tuple(DeadLetter(*values) for values in found)


def _statistics(db: sqlite3.Connection) -> Statistics:
    (last_seq,) = db.execute("SELECT last_seq FROM counter").fetchone() or (0,)
    waiting, size, oldest_ns = db.execute(
        "SELECT count(*), coalesce(sum(length(payload)), 0), min(stored_ns) FROM event WHERE delivered_ns IS NULL"
    ).fetchone()
    delivered = _count(db, "event WHERE delivered_ns IS NOT NULL")
    oldest = "" if oldest_ns is None else stamp(oldest_ns)
    return Statistics(last_seq, waiting, size, oldest, delivered, _count(db, "dead"))


def _take_back(db: sqlite3.Connection, seqs: Sequence[int] | None) -> int:
    db.execute("CREATE TEMP TABLE IF NOT EXISTS chosen (seq INTEGER PRIMARY KEY)")
    db.execute("DELETE FROM chosen")
    if seqs is None:
        db.execute("INSERT INTO chosen SELECT seq FROM dead")
    else:
        db.executemany("INSERT OR IGNORE INTO chosen VALUES (?)", [(seq,) for seq in seqs])
    done: int = db.execute(
        "INSERT OR IGNORE INTO event SELECT seq, event_id, topic, severity, payload, stored_ns, NULL FROM dead"
        " WHERE seq IN (SELECT seq FROM chosen)"
    ).rowcount
    db.execute("DELETE FROM dead WHERE seq IN (SELECT seq FROM chosen)")
    return done


def _throw_away(db: sqlite3.Connection, seqs: Sequence[int] | None) -> int:
    if seqs is None:
        return int(db.execute("DELETE FROM dead").rowcount)
    return int(db.executemany("DELETE FROM dead WHERE seq = ?", [(seq,) for seq in seqs]).rowcount)


@dataclass(frozen=True, slots=True)
class _Changes:
    """What a transaction will have changed once it is committed."""

    last_seq: int
    depth: int
    waiting_bytes: int
    open_loss: tuple[int, Loss] | None
    dropped: int = 0


class _Damaged(sqlite3.DatabaseError):
    """quick_check found something."""


def _encoded(payload: dict[str, Any], seq: int) -> bytes:
    """Compact JSON with its number.  Raises ValueError for what JSON cannot say."""
    try:
        text = json.dumps({**payload, "seq": seq}, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"event {payload.get('event_id')}: {error}") from error


def _open_to_read(path: Path) -> sqlite3.Connection:
    location = f"file:{_uri(path)}"
    db = sqlite3.connect(f"{location}?mode=ro", uri=True, timeout=5.0)
    try:
        db.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        db.close()
        if path.with_name(path.name + "-wal").exists():
            raise
        # A directory that may not be written, and no daemon: nothing can change, so no lock is needed.
        db = sqlite3.connect(f"{location}?mode=ro&immutable=1", uri=True)
    return db


def _uri(path: Path) -> str:
    return path.resolve().as_uri().removeprefix("file:")


def _history(
    db: sqlite3.Connection, since_wall_ns: int, limit: int, *, only_refused: bool = False
) -> tuple[StoredEvent, ...]:
    found = db.execute(
        "SELECT seq, event_id, topic, severity, payload, stored_ns,"
        " CASE WHEN delivered_ns IS NULL THEN 'waiting' ELSE 'delivered' END, delivered_ns, NULL"
        " FROM event WHERE stored_ns >= ?1 AND NOT ?3"
        " UNION ALL SELECT seq, event_id, topic, severity, payload, stored_ns, 'refused', refused_ns, reason"
        " FROM dead WHERE stored_ns >= ?1 ORDER BY seq DESC LIMIT ?2",
        (since_wall_ns, limit, only_refused),
    ).fetchall()
    return tuple(StoredEvent(*values) for values in reversed(found))


def _salvage(path: Path) -> tuple[int | None, list[Row]]:
    """The count and the undelivered rows of a damaged store, as far as they can be read."""
    last_seq: int | None = None
    rows: list[Row] = []
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=1.0, isolation_level=None)) as db:
            with contextlib.suppress(sqlite3.Error, TypeError, ValueError):
                last_seq = int(db.execute("SELECT last_seq FROM counter").fetchone()[0])
            # NOT INDEXED walks the table itself: one structure that must be whole instead of two
            query = (
                "SELECT seq, event_id, topic, severity, payload, stored_ns FROM event NOT INDEXED"
                " WHERE delivered_ns IS NULL ORDER BY seq"
            )
            for values in db.execute(query):  # one by one: what comes before the damage counts
                if _is_sound(values):
                    rows.append(Row(*values))  # noqa: PERF401
    except sqlite3.Error as error:
        log.debug("reading the damaged store ended: %s", error)
    return last_seq, rows


def _is_sound(values: tuple[Any, ...]) -> bool:
    """Whether a salvaged row still says what it said."""
    try:
        said = json.loads(values[4])
        return bool(said["seq"] == values[0] and said["event_id"] == values[1] and isinstance(values[5], int))
    except (TypeError, ValueError, KeyError):
        return False


def _count(db: sqlite3.Connection, what: str) -> int:
    return int(db.execute(f"SELECT count(*) FROM {what}").fetchone()[0])  # noqa: S608 (constants of this file)


def _waiting_bytes(db: sqlite3.Connection, seq: int | None = None) -> int:
    """Payload of all undelivered events, or of one; 0 if it does not wait.  Only lengths are read."""
    which, values = ("", ()) if seq is None else (" AND seq = ?", (seq,))
    query = f"SELECT coalesce(sum(length(payload)), 0) FROM event WHERE delivered_ns IS NULL{which}"  # noqa: S608
    return int(db.execute(query, values).fetchone()[0])


def _is_damage(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) or 0
    return isinstance(error, _Damaged) or (code & 0xFF) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _translated(error: sqlite3.Error, path: Path) -> OutboxError:
    code = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
    remedies = {
        sqlite3.SQLITE_FULL: "the disk is full; make room",
        sqlite3.SQLITE_READONLY: "it may not be written; check the owner of state_dir",
        sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check the owner of state_dir",
        sqlite3.SQLITE_IOERR: "the disk failed; check the kernel's messages",
        sqlite3.SQLITE_BUSY: "another process holds it; is a second defectd running?",
    }
    remedy = remedies.get(code)
    return OutboxError(f"{path}: {error}" + (f": {remedy}" if remedy else ""))
