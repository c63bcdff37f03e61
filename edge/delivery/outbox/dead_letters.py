"""The dead letters: events that the broker rejected for good, until an operator retries or discards them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from edge.delivery.outbox.rows import SCHEMA_VERSION, SELECT_ROW, DeadLetter, Loss
from edge.delivery.outbox.sqlite_errors import translated
from edge.errors import OutboxError

MAX_DEAD: Final = 10_000
"""Dead letters kept; above that the oldest are deleted, and an events.dropped event reports them."""
BATCH: Final = 256
"""Dead letters above `MAX_DEAD` before they are deleted together. The report may be refused in its turn and become a
dead letter: one report for each dead letter would never end."""


def settle_dead_letters(path: Path, action: Literal["retry", "discard"], seqs: Sequence[int] | None) -> int:
    """`Outbox.retry` or `Outbox.discard` from another process, whether the daemon runs or not.  Raises OutboxError.

    A running daemon sends the retried events within about a second.
    """
    if not path.exists():
        return 0
    try:
        # mode=rw never creates a database.  The daemon's own transactions take milliseconds: 5 s always suffice.
        location = f"{path.resolve().as_uri()}?mode=rw"
        with contextlib.closing(sqlite3.connect(location, uri=True, timeout=5.0, isolation_level=None)) as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version != SCHEMA_VERSION:
                raise OutboxError(f"{path} has format {version}, this defectd knows {SCHEMA_VERSION}")
            db.execute("BEGIN IMMEDIATE")
            done = put_back(db, seqs) if action == "retry" else delete(db, seqs)
            db.execute("COMMIT")
            return done
    except sqlite3.Error as error:
        raise translated(error, path) from error


def oldest(db: sqlite3.Connection, limit: int) -> tuple[DeadLetter, ...]:
    found = db.execute(
        "SELECT seq, event_id, topic, payload, stored_ns, refused_ns, code, reason FROM dead ORDER BY seq LIMIT ?",
        (limit,),
    ).fetchall()
    return tuple(DeadLetter(*values) for values in found)


def move_waiting(db: sqlite3.Connection, seq: int, refused_ns: int, code: int, reason: str) -> bool:
    """Make a waiting event a dead letter; False if it was not waiting."""
    done = db.execute(
        f"INSERT OR REPLACE INTO dead {SELECT_ROW}, ?, ?, ? FROM event WHERE seq = ? AND delivered_ns IS NULL",
        (refused_ns, code, reason, seq),
    ).rowcount
    if not done:
        return False
    db.execute("DELETE FROM event WHERE seq = ?", (seq,))
    return True


def prune(db: sqlite3.Connection, refused: int, max_dead: int) -> Loss | None:
    """Delete the oldest dead letters when there are too many; returns what is lost.  refused: how many there are."""
    if refused < max_dead + BATCH:
        return None
    oldest = [seq for (seq,) in db.execute("SELECT seq FROM dead ORDER BY seq LIMIT ?", (refused - max_dead,))]
    delete(db, oldest)
    return Loss(oldest[0], oldest[-1], len(oldest), "full")


def put_back(db: sqlite3.Connection, seqs: Sequence[int] | None) -> int:
    """Let dead letters wait for delivery again; returns how many.  None: all."""
    db.execute("CREATE TEMP TABLE IF NOT EXISTS chosen (seq INTEGER PRIMARY KEY)")
    db.execute("DELETE FROM chosen")
    if seqs is None:
        db.execute("INSERT INTO chosen SELECT seq FROM dead")
    else:
        db.executemany("INSERT OR IGNORE INTO chosen VALUES (?)", [(seq,) for seq in seqs])
    done: int = db.execute(f"INSERT OR IGNORE INTO event {SELECT_ROW}, NULL FROM dead WHERE seq IN chosen").rowcount
    db.execute("DELETE FROM dead WHERE seq IN chosen")
    return done


def delete(db: sqlite3.Connection, seqs: Sequence[int] | None) -> int:
    """Delete dead letters; returns how many.  None: all."""
    if seqs is None:
        return int(db.execute("DELETE FROM dead").rowcount)
    return int(db.executemany("DELETE FROM dead WHERE seq = ?", [(seq,) for seq in seqs]).rowcount)
