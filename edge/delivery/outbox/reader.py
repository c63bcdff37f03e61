"""Reading the outbox beside the publisher: from another process, and by further readers with their own place in it."""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from edge.delivery.outbox import dead_letters
from edge.delivery.outbox.rows import SELECT_ROW, DeadLetter, Row, StoredEvent, count
from edge.delivery.outbox.sqlite_errors import translated
from edge.errors import OutboxError
from edge.host.clock import stamp
from edge.host.rights import why

log = logging.getLogger(__name__)

Found = TypeVar("Found")
FIRST_WINDOW: Final = 64
WINDOW: Final = 2048
"""Numbers that a search looks through at a time, at first and at most: most pages end in the first window."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """How much an outbox holds.  oldest_waiting: UTC, "" when nothing waits."""

    last_seq: int
    waiting: int
    waiting_bytes: int
    oldest_waiting: str
    delivered: int
    refused: int


@dataclass(frozen=True, slots=True)
class EventQuery:
    """What a page of events shows.  An empty tuple, or None, sets no condition.

    after, before: bounds of `seq`, not included; with `after` alone the search goes upwards, otherwise downwards from
    the newest.  since_ns, until_ns: wall times of storing, included.  text: occurs anywhere in the event, in any case.
    """

    limit: int
    after: int | None = None
    before: int | None = None
    types: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    severities: tuple[str, ...] = ()
    """Of the defect; where the event says none, of the event."""
    coil: str | None = None
    text: str | None = None
    since_ns: int = 0
    until_ns: int = (1 << 63) - 1

    @property
    def needles(self) -> tuple[tuple[bytes, ...], ...]:
        """Of each group, the payload of every event that fits contains one: SQLite leaves out the others quickly."""
        coils = () if self.coil is None else (self.coil,)
        wanted = {"type": self.types, "camera": self.cameras, "class": self.classes, "coil": coils}
        return tuple(
            tuple(f'"{key}":{json.dumps(value, ensure_ascii=False)}'.encode() for value in values)
            for key, values in wanted.items()
            if values
        )

    def accepts(self, row: StoredEvent) -> bool:
        """Whether an event fits."""
        try:
            event = json.loads(row.payload)
        except ValueError:
            return False
        defect, detail = event.get("defect") or {}, event.get("detail") or {}
        return (
            event.get("type") in (self.types or (event.get("type"),))
            and event.get("camera") in (self.cameras or (event.get("camera"),))
            and (not self.classes or defect.get("class") in self.classes)
            and (not self.severities or defect.get("severity", row.severity) in self.severities)
            and (self.coil is None or self.coil in (defect.get("coil"), detail.get("coil")))
            and (self.text is None or self.text.casefold() in row.payload.decode("utf-8", "replace").casefold())
        )


@dataclass(frozen=True, slots=True)
class EventPage:
    """A page of events in the order of the search.

    cursor: the number from which the next page goes on, as `after` or `before`; None at the end.  is_whole: nothing
    that fits is left.
    """

    events: tuple[StoredEvent, ...]
    cursor: int | None
    is_whole: bool


# ---- from another process, whether the daemon runs or not ------------------------------------------


def read_events(path: Path, since_wall_ns: int, limit: int, *, only_refused: bool = False) -> tuple[StoredEvent, ...]:
    """The newest `limit` events stored since that time, oldest first; none if there is no database.

    Raises OutboxError.
    """
    return _read(path, lambda db: _events(db, since_wall_ns, limit, only_refused=only_refused))


def read_statistics(path: Path) -> Statistics | None:
    """How much the outbox holds; None if there is no database.  Raises OutboxError."""
    return next(iter(_read(path, lambda db: (_statistics(db),))), None)


def read_dead_letters(path: Path, limit: int) -> tuple[DeadLetter, ...]:
    """The oldest `limit` refused events.  Raises OutboxError."""
    return _read(path, lambda db: dead_letters.oldest(db, limit))


def _read(path: Path, query: Callable[[sqlite3.Connection], tuple[Found, ...]]) -> tuple[Found, ...]:
    try:
        if not path.exists():
            return ()
        with contextlib.closing(_open_read_only(path)) as db:
            if db.execute("PRAGMA user_version").fetchone()[0] == 0:
                return ()
            return query(db)
    except OSError as error:
        raise OutboxError(f"{path}: {why(error)}") from error
    except sqlite3.Error as error:
        raise translated(error, path) from error


def _open_read_only(path: Path) -> sqlite3.Connection:
    location = path.resolve().as_uri()
    db = sqlite3.connect(f"{location}?mode=ro", uri=True, timeout=5.0)
    try:
        db.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        db.close()
        if path.with_name(path.name + "-wal").exists():
            raise
        # A directory that is not writable, and no daemon: nothing can change, so the reader needs no lock.
        db = sqlite3.connect(f"{location}?mode=ro&immutable=1", uri=True)
    return db


def _events(db: sqlite3.Connection, since_wall_ns: int, limit: int, *, only_refused: bool) -> tuple[StoredEvent, ...]:
    found = db.execute(
        f"{SELECT_ROW},"
        " CASE WHEN delivered_ns IS NULL THEN 'waiting' ELSE 'delivered' END, delivered_ns, NULL"
        " FROM event WHERE stored_ns >= ?1 AND NOT ?3"
        f" UNION ALL {SELECT_ROW}, 'refused', refused_ns, reason"
        " FROM dead WHERE stored_ns >= ?1 ORDER BY seq DESC LIMIT ?2",
        (since_wall_ns, limit, only_refused),
    ).fetchall()
    return tuple(StoredEvent(*values) for values in reversed(found))


def _statistics(db: sqlite3.Connection) -> Statistics:
    (last_seq,) = db.execute("SELECT last_seq FROM counter").fetchone() or (0,)
    waiting, size, oldest_ns = db.execute(
        "SELECT count(*), coalesce(sum(length(payload)), 0), min(stored_ns) FROM event WHERE delivered_ns IS NULL"
    ).fetchone()
    delivered = count(db, "event WHERE delivered_ns IS NOT NULL")
    oldest = "" if oldest_ns is None else stamp(oldest_ns)
    return Statistics(last_seq, waiting, size, oldest, delivered, count(db, "dead"))


def read_page(path: Path, query: EventQuery, should_go_on: Callable[[], bool]) -> EventPage:
    """A page of the stored events that fit, beside a running daemon.  Raises OutboxError.

    It searches a window of numbers at a time, and stops between two windows when `should_go_on` is false: a search that
    finds little in a large outbox takes several pages.
    """
    found = _read(path, lambda db: (_page(db, query, should_go_on),))
    return found[0] if found else EventPage((), None, is_whole=True)


def _page(db: sqlite3.Connection, query: EventQuery, should_go_on: Callable[[], bool]) -> EventPage:
    lowest, highest = _bounds(db)
    is_forward = query.after is not None and query.before is None
    low = max(lowest, 1 if query.after is None else query.after + 1)
    high = min(highest, highest if query.before is None else query.before - 1)
    found: list[StoredEvent] = []
    at = low if is_forward else high
    size = max(FIRST_WINDOW, query.limit)
    while low <= at <= high:
        size = min(WINDOW, size)
        first, last = (at, min(at + size - 1, high)) if is_forward else (max(at - size + 1, low), at)
        size *= 2
        rows = _window(db, query, first, last, is_forward=is_forward)
        for row in rows:
            if query.accepts(row):
                found.append(row)
                if len(found) == query.limit:
                    is_whole = row.seq == (high if is_forward else low)
                    return EventPage(tuple(found), None if is_whole else row.seq, is_whole=is_whole)
        at = last + 1 if is_forward else first - 1
        if not should_go_on() and low <= at <= high:
            return EventPage(tuple(found), last if is_forward else first, is_whole=False)
    return EventPage(tuple(found), None, is_whole=True)


def _bounds(db: sqlite3.Connection) -> tuple[int, int]:
    """The lowest and the highest number of a stored event; an empty range without one."""
    low, high = db.execute(  # each alone: SQLite finds one bound at once, and reads all rows for two
        "SELECT min(low), max(high) FROM"
        " (SELECT (SELECT min(seq) FROM event) AS low, (SELECT max(seq) FROM event) AS high"
        " UNION ALL SELECT (SELECT min(seq) FROM dead), (SELECT max(seq) FROM dead))"
    ).fetchone()
    return (1, 0) if low is None else (low, high)


def _window(db: sqlite3.Connection, query: EventQuery, first: int, last: int, *, is_forward: bool) -> list[StoredEvent]:
    """The events of a range of numbers whose payload can fit, in the order of the search."""
    needles: list[bytes] = []
    fits = ""
    for group in query.needles:
        numbers = range(5 + len(needles), 5 + len(needles) + len(group))
        fits += f" AND ({' OR '.join(f'instr(payload, ?{number}) > 0' for number in numbers)})"
        needles += group
    where = f"seq BETWEEN ?1 AND ?2 AND stored_ns BETWEEN ?3 AND ?4{fits}"
    order = "ASC" if is_forward else "DESC"
    return [
        StoredEvent(*values)
        for values in db.execute(
            f"{SELECT_ROW},"
            " CASE WHEN delivered_ns IS NULL THEN 'waiting' ELSE 'delivered' END, delivered_ns, NULL"
            f" FROM event WHERE {where}"
            f" UNION ALL {SELECT_ROW}, 'refused', refused_ns, reason FROM dead WHERE {where} ORDER BY seq {order}",
            (first, last, query.since_ns, query.until_ns, *needles),
        )
    ]


# ---- further readers in the daemon -----------------------------------------------------------------


def rows_after(db: sqlite3.Connection, seq: int, limit: int) -> tuple[Row, ...]:
    """The next events after `seq`, waiting, delivered or refused, oldest first."""
    found = db.execute(
        f"{SELECT_ROW} FROM event WHERE seq > ?1 UNION ALL {SELECT_ROW} FROM dead WHERE seq > ?1 ORDER BY seq LIMIT ?2",
        (seq, limit),
    ).fetchall()
    return tuple(Row(*values) for values in found)


class ReaderHolds:
    """How far each further reader has come, and what each lost.  The lock of the outbox guards it.

    Holds live in memory only: a reader that does not exist after the next start holds nothing then.
    """

    def __init__(self) -> None:
        self._after: dict[str, int] = {}
        self._lost: dict[str, int] = {}
        self._newest_lost: dict[str, int] = {}
        """By reader: the newest event that it lost, until the reader has come past that number."""

    def hold(self, reader: str, after_seq: int) -> None:
        """`reader` needs the events above `after_seq`; replaces what it needed before."""
        self._after[reader] = after_seq
        self._lost.setdefault(reader, 0)
        if after_seq >= self._newest_lost.get(reader, 0):
            self._newest_lost.pop(reader, None)

    def release(self, reader: str) -> None:
        """`reader` needs nothing any more; safe when it never held."""
        for known in (self._after, self._lost, self._newest_lost):
            known.pop(reader, None)

    def lowest(self) -> int | None:
        """Some reader needs the events above this number; None without readers."""
        return min(self._after.values(), default=None)

    @property
    def lost(self) -> Mapping[str, int]:
        """By reader: events deleted before it had come past them, since it held first."""
        return dict(self._lost)

    def count_lost(self, seqs: Sequence[int]) -> None:
        """Count deleted events that a reader needed; log once when a reader starts to lose events.  seqs: ascending."""
        for reader, after_seq in self._after.items():
            needed = [seq for seq in seqs if seq > after_seq]
            if not needed:
                continue
            self._lost[reader] += len(needed)
            if reader not in self._newest_lost:
                log.warning(
                    "the outbox is full of delivered events that the reader %s has not confirmed (it is at seq %d):"
                    " from now on the reader loses the oldest, starting with seq %d",
                    reader,
                    after_seq,
                    needed[0],
                )
            self._newest_lost[reader] = needed[-1]
