"""The database format of version 0.1.0 is the format of today."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
from fakes.delivery import draft
from fakes.outbox import open_outbox, open_reporting, reported

from edge.delivery.outbox.reader import read_dead_letters, read_events

DUMP = Path(__file__).with_name("outbox-0.1.sql")


@pytest.fixture
def path(tmp_path):
    """The database of an older version, with its side file."""
    path = tmp_path / "outbox.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(DUMP.read_text("utf-8"))
    path.with_name("outbox.db.seq").write_text("1006\n")
    return path


def schema(path: Path) -> set[tuple[str, str, str]]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return set(db.execute("SELECT type, name, sql FROM sqlite_master"))


def test_events_of_an_old_database_keep_their_state_and_number(path):
    """Waiting events are delivered in order, the refused one stays a dead letter, and the count continues."""
    assert [(e.seq, e.state) for e in read_events(path, 0, 100)] == [
        (1, "delivered"),
        (2, "delivered"),
        (3, "refused"),
        *((seq, "waiting") for seq in (5, 6, 8, 9, 10)),
    ]
    assert [(d.seq, d.code, d.reason) for d in read_dead_letters(path, 10)] == [(3, 0x87, "not authorised")]
    box = open_reporting(path.parent, max_rows=100)
    rows = box.peek(0, 100)
    assert [(row.seq, row.event_id, row.severity) for row in rows] == [
        (5, "loss-3", "alarm"),
        (6, "id-6", "alarm"),
        (8, "id-8", "info"),
        (9, "id-9", "info"),
        (10, "loss-4", "alarm"),
    ]
    assert "größer".encode() in rows[1].payload
    assert (box.depth(), box.refused, box.last_seq) == (5, 1, 10)
    assert box.append([draft(1)]) == (11,)
    assert [detail["cause"] for detail in reported(box)] == ["refused", "full"]
    assert box.ack([5, 6, 8, 9, 10, 11]) == 6
    assert box.retry(None) == 1
    box.close()


def test_report_dropped_from_an_old_database_is_reported_again(path):
    """The loss rows of an older version still hold the numbers that an events.dropped row reports."""
    box = open_reporting(path.parent, max_rows=2)  # 5 reports the loss of 3; 10 stays
    box.append([draft(n) for n in range(3)])
    assert reported(box)[-1] == {"first_seq": 3, "last_seq": 13, "count": 8, "cause": "full"}
    box.close()


def test_new_database_has_the_tables_of_the_old_format(path, tmp_path):
    """Older versions can open what this version writes: the same tables, columns and indexes."""
    folder = tmp_path / "new"
    open_outbox(folder).close()
    assert schema(folder / "outbox.db") == schema(path)
