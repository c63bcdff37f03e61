"""What the outbox stores: the tables, the values read from and written to them, and the totals over them."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args

from edge.event import Severity

SCHEMA_VERSION: Final = 1

DeliveryState = Literal["waiting", "delivered", "refused"]
LossCause = Literal["full", "memory", "refused", "damaged", "power", "several"]
"""full: the outbox was full; memory: the disk took no events, up to a stop; refused: the broker rejected the event;
damaged, power: the database lost it; several: more than one of these."""

TABLES: Final = """
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
VICTIM_INDEX: Final = (
    "CREATE INDEX IF NOT EXISTS event_minor ON event (seq) WHERE delivered_ns IS NULL AND severity = 'info'"
)
"""Finds the first events to drop. Not in `TABLES`: databases written before it existed get it too."""
SELECT_ROW: Final = "SELECT seq, event_id, topic, severity, payload, stored_ns"
"""The fields of `Row`, in order; `event` and `dead` have these columns."""


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
    """An event in the outbox, in any state. Times are wall time; settled_ns: when it was delivered or refused."""

    seq: int
    event_id: str
    topic: str
    severity: Severity
    payload: bytes
    stored_ns: int
    state: DeliveryState
    settled_ns: int | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that the broker rejected for good. Times are wall time."""

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
class Loss:
    """A range of numbers, bounds included, some of which no subscriber will see.

    count: how many of the range are lost; for the causes `damaged` and `power` the upper bound.
    """

    first_seq: int
    last_seq: int
    count: int
    cause: LossCause

    def merged(self, other: Loss) -> Loss:
        return Loss(
            first_seq=min(self.first_seq, other.first_seq),
            last_seq=max(self.last_seq, other.last_seq),
            count=self.count + other.count,
            cause=self.cause if self.cause == other.cause else "several",
        )


@dataclass(frozen=True, slots=True)
class Totals:
    """What the database holds after a commit. A transaction builds the next value and replaces the whole."""

    last_seq: int
    """The newest number in use; 0 before the first."""
    waiting: int = 0
    """Undelivered events."""
    waiting_bytes: int = 0
    """Payload of the undelivered events."""
    delivered: int = 0
    refused: int = 0
    dropped: int = 0
    """Events dropped because the outbox was full, since the start of the process."""
    open_loss: tuple[int, Loss] | None = None
    """The newest events.dropped row and its `seq`, until `peek` returns the row: it can still be widened."""

    def counted(self, db: sqlite3.Connection) -> Totals:
        """These totals with the rows counted anew."""
        return replace(
            self,
            waiting=count(db, "event WHERE delivered_ns IS NULL"),
            waiting_bytes=waiting_bytes(db),
            delivered=count(db, "event WHERE delivered_ns IS NOT NULL"),
            refused=count(db, "dead"),
        )


def encoded(payload: dict[str, Any], seq: int) -> bytes:
    """The payload as compact JSON with its number.  Raises ValueError for a value that JSON does not have."""
    try:
        text = json.dumps({**payload, "seq": seq}, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"event {payload.get('event_id')}: {error}") from error


def count(db: sqlite3.Connection, source: str) -> int:
    """source: a table, with or without a condition; a constant of this package."""
    return int(db.execute(f"SELECT count(*) FROM {source}").fetchone()[0])  # noqa: S608 (never text from outside)


def waiting_bytes(db: sqlite3.Connection, seq: int | None = None) -> int:
    """Payload of all undelivered events, or of one; 0 if that one is not waiting.  Reads only the lengths."""
    condition, values = ("", ()) if seq is None else (" AND seq = ?", (seq,))
    query = f"SELECT coalesce(sum(length(payload)), 0) FROM event WHERE delivered_ns IS NULL{condition}"  # noqa: S608
    return int(db.execute(query, values).fetchone()[0])


def is_intact(values: tuple[Any, ...]) -> bool:
    """Whether the first columns of a row, those of `Row`, are consistent with the payload."""
    seq, event_id, topic, severity, payload, stored_ns = values[:6]
    try:
        event = json.loads(payload)
        return bool(
            isinstance(payload, bytes)
            and 0 < seq == event["seq"]
            and event_id == event["event_id"]
            and isinstance(topic, str)
            and severity in get_args(Severity)
            and isinstance(stored_ns, int)
        )
    except (TypeError, ValueError, KeyError, RecursionError):
        return False


PENDING: Final = 0
"""The `seq` in the table `loss` of what no events.dropped event has reported yet: no event has this number."""


def pending_loss(db: sqlite3.Connection) -> Loss | None:
    """What was lost and not reported yet."""
    found = db.execute("SELECT first_seq, last_seq, count, cause FROM loss WHERE seq = ?", (PENDING,)).fetchone()
    return None if found is None else Loss(*found)


def put_pending(db: sqlite3.Connection, loss: Loss) -> Loss:
    """Note a loss, beside what is not reported yet, until `clear_pending`; returns all of it."""
    known = pending_loss(db)
    total = loss if known is None else known.merged(loss)
    db.execute(
        "INSERT OR REPLACE INTO loss VALUES (?, ?, ?, ?, ?)",
        (PENDING, total.first_seq, total.last_seq, total.count, total.cause),
    )
    return total


def clear_pending(db: sqlite3.Connection) -> None:
    """The loss is in an events.dropped event of the same transaction."""
    db.execute("DELETE FROM loss WHERE seq = ?", (PENDING,))


def insert_waiting(db: sqlite3.Connection, rows: list[Row]) -> None:
    """Store events that wait for delivery."""
    db.executemany(
        "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, NULL)",
        [(row.seq, row.event_id, row.topic, row.severity, row.payload, row.stored_ns) for row in rows],
    )
