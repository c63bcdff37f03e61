"""What the outbox drops when it is full, and the events.dropped rows that report every loss.

All functions work inside a write transaction of their caller, and return the totals that the commit makes true.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from edge.delivery.outbox.rows import PENDING, Draft, Loss, Row, Totals, encoded, insert_waiting, waiting_bytes

PRUNE_BATCH: Final = 256
"""Delivered events above `keep_delivered` before they are deleted together."""
LOSS_ROOM_BYTES: Final = 2048
"""Freed for the events.dropped event that reports what was dropped: more than that event needs."""

MakeLossDraft = Callable[[Loss], Draft]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the outbox keeps."""

    max_rows: int
    """Undelivered events, and delivered ones that a reader holds."""
    max_bytes: int | None
    """Payload of the undelivered events; None: no limit."""
    keep_delivered: int
    """Delivered events that no reader needs."""


def trim(
    db: sqlite3.Connection, totals: Totals, limits: Limits, make_draft: MakeLossDraft | None, now_ns: int
) -> Totals:
    """Drop undelivered events above the limits and report them in one row.

    make_draft: the event that reports a loss; None: drop without a report.  now_ns: wall time.
    """
    over = totals.waiting - limits.max_rows
    over_bytes = 0 if limits.max_bytes is None else totals.waiting_bytes - limits.max_bytes
    if over <= 0 and over_bytes <= 0:
        return totals
    dropped = victims(db, over, over_bytes)
    if make_draft is not None:  # the report takes up rows and bytes too
        widens = totals.open_loss is not None and totals.open_loss[1].cause == "full"
        is_new = totals.open_loss is None or not widens or totals.open_loss[0] in dropped
        room_bytes = 0 if limits.max_bytes is None else LOSS_ROOM_BYTES
        dropped = victims(db, over + is_new, over_bytes + room_bytes)
    loss = _loss_of(db, dropped)
    _delete(db, dropped)
    db.executemany("DELETE FROM loss WHERE seq = ?", [(seq,) for seq in dropped])
    if totals.open_loss and totals.open_loss[0] in dropped:
        totals = replace(totals, open_loss=None)
    totals = replace(
        totals,
        waiting=totals.waiting - len(dropped),
        waiting_bytes=totals.waiting_bytes - sum(dropped.values()),
        dropped=totals.dropped + len(dropped),
    )
    return totals if make_draft is None else report(db, totals, loss, make_draft, now_ns)


def report(db: sqlite3.Connection, totals: Totals, loss: Loss, make_draft: MakeLossDraft, now_ns: int) -> Totals:
    """Report a loss in a row of its own, or widen the newest one while no reader has seen it."""
    if totals.open_loss is not None and totals.open_loss[1].cause == loss.cause:
        seq, known = totals.open_loss
        loss = known.merged(loss)
        draft = make_draft(loss)
        payload = encoded(draft.payload, seq)
        growth_bytes = len(payload) - waiting_bytes(db, seq)
        db.execute("UPDATE event SET event_id = ?, payload = ? WHERE seq = ?", (draft.event_id, payload, seq))
        totals = replace(totals, waiting_bytes=totals.waiting_bytes + growth_bytes)
    else:
        seq = totals.last_seq + 1
        draft = make_draft(loss)
        payload = encoded(draft.payload, seq)
        insert_waiting(db, [Row(seq, draft.event_id, draft.topic, draft.severity, payload, now_ns)])
        totals = replace(
            totals,
            last_seq=seq,
            waiting=totals.waiting + 1,
            waiting_bytes=totals.waiting_bytes + len(payload),
        )
    db.execute(
        "INSERT OR REPLACE INTO loss VALUES (?, ?, ?, ?, ?)",
        (seq, loss.first_seq, loss.last_seq, loss.count, loss.cause),
    )
    return replace(totals, open_loss=(seq, loss))


def victims(db: sqlite3.Connection, min_count: int, min_bytes: int) -> dict[int, int]:
    """The undelivered events to drop: at least that many with at least that payload, as far as there are any.

    The oldest of severity info first, then the oldest of the others.  Returns their sizes by `seq`.
    """
    found: dict[int, int] = {}
    found_bytes = 0
    # The first condition repeats that of the index event_minor literally: then SQLite does not search the other events.
    for condition in ("severity = 'info'", "severity <> 'info'"):
        query = f"SELECT seq, length(payload) FROM event WHERE delivered_ns IS NULL AND {condition} ORDER BY seq"  # noqa: S608
        with contextlib.closing(db.execute(query)) as rows:
            for seq, size_bytes in rows:
                if len(found) >= min_count and found_bytes >= min_bytes:
                    return found
                found[int(seq)] = int(size_bytes)
                found_bytes += int(size_bytes)
    return found


def prune(
    db: sqlite3.Connection, totals: Totals, limits: Limits, held_after_seq: int | None
) -> tuple[Totals, tuple[int, ...]]:
    """Delete delivered events above `keep_delivered`, in batches.

    held_after_seq: readers need the events above that number; None: no reader needs any.
    Returns the `seq` of the events that went because of `max_rows` although a reader needed them.
    """
    over = totals.delivered - limits.keep_delivered
    if over < PRUNE_BATCH:
        return totals, ()
    needless = _oldest_delivered(db, over, totals.last_seq if held_after_seq is None else held_after_seq)
    _delete(db, needless)
    remaining = totals.delivered - len(needless)
    lost = _oldest_delivered(db, remaining - max(limits.keep_delivered, limits.max_rows), totals.last_seq)
    _delete(db, lost)
    db.execute("DELETE FROM loss WHERE seq < (SELECT min(seq) FROM event) AND seq <> ?", (PENDING,))
    return replace(totals, delivered=remaining - len(lost)), lost


def _oldest_delivered(db: sqlite3.Connection, limit: int, last_seq: int) -> tuple[int, ...]:
    """The oldest delivered events up to `last_seq`, at most `limit`."""
    if limit <= 0:
        return ()
    query = "SELECT seq FROM event WHERE delivered_ns IS NOT NULL AND seq <= ? ORDER BY seq LIMIT ?"
    return tuple(int(seq) for (seq,) in db.execute(query, (last_seq, limit)))


def _delete(db: sqlite3.Connection, seqs: Iterable[int]) -> None:
    db.executemany("DELETE FROM event WHERE seq = ?", [(seq,) for seq in seqs])


def _loss_of(db: sqlite3.Connection, dropped: dict[int, int]) -> Loss:
    """What is lost with these rows.  A dropped events.dropped row passes on the range that it reported."""
    reported = {
        int(values[0]): Loss(*values[1:])
        for values in db.execute(
            "SELECT seq, first_seq, last_seq, count, cause FROM loss WHERE seq <= ?", (max(dropped),)
        )
    }
    total: Loss | None = None
    for seq in dropped:
        one = Loss(seq, seq, 1, "full")
        if seq in reported:
            one = replace(one.merged(reported[seq]), cause="full")
        total = one if total is None else total.merged(one)
    assert total is not None  # the caller drops at least one event
    return total
