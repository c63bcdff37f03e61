"""Opening an outbox after damage, deletion, a power cut, or an older version: no number repeats."""

from __future__ import annotations

import sqlite3

import pytest
from fakes.delivery import draft
from fakes.outbox import damage, open_outbox, open_reporting, reported

from edge.delivery.outbox.sequence import SEQ_BLOCK
from edge.errors import OutboxError


def moved_aside(folder) -> list[str]:
    return [path.name for path in folder.glob("outbox.db.damaged-*")]


def test_damaged_header_is_moved_aside_and_the_count_continues(tmp_path, caplog):
    """A file that is no longer a database keeps its rows all the same, and no number repeats."""
    box = open_outbox(tmp_path)
    box.append([draft(n) for n in range(5)])
    rows = box.peek(0, 10)
    box.close()
    damage(tmp_path / "outbox.db", 0, 4096)
    again = open_reporting(tmp_path)
    assert moved_aside(tmp_path)
    assert "is damaged" in caplog.text
    assert again.append([draft(9)]) == (6,)
    assert again.peek(0, 5) == rows
    assert reported(again) == []
    again.close()


def test_file_without_any_row_is_reported_from_the_first_number(tmp_path):
    """Nothing of the database is left: every number that was used is in the reported range."""
    box = open_outbox(tmp_path)
    box.append([draft(n) for n in range(5)])
    box.close()
    damage(tmp_path / "outbox.db", 0, (tmp_path / "outbox.db").stat().st_size)
    again = open_reporting(tmp_path)
    assert again.append([draft(9)]) == (6,)
    assert reported(again) == [{"first_seq": 1, "last_seq": 5, "count": 5, "cause": "damaged"}]
    again.close()


def damaged_in_the_middle(folder):
    """Write 2,000 rows and damage three pages of the database behind them.  Returns the rows."""
    box = open_outbox(folder, max_rows=10_000)
    box.append([draft(n) for n in range(2000)])
    rows = box.peek(0, 10_000)
    box.close()
    path = folder / "outbox.db"
    damage(path, path.stat().st_size * 3 // 4 // 4096 * 4096, 4096 * 3)
    return rows


def test_rows_before_the_damage_are_saved(tmp_path):
    """The new database gets every row of the damaged one that is readable, unchanged."""
    rows = damaged_in_the_middle(tmp_path)
    again = open_outbox(tmp_path, max_rows=10_000)
    saved = again.peek(0, 10_000)
    assert moved_aside(tmp_path)
    assert len(saved) > 100
    assert set(saved) <= set(rows)
    again.close()
    again = open_reporting(tmp_path, max_rows=10_000)
    assert again.peek(0, 10_000) == saved
    again.close()


def test_rows_lost_by_damage_are_within_the_reported_range(tmp_path):
    """Every row that was not saved is reported, and the next event gets a fresh number."""
    rows = damaged_in_the_middle(tmp_path)
    again = open_reporting(tmp_path, max_rows=10_000)
    saved = again.peek(0, 10_000)
    (fresh,) = again.append([draft(0)])
    assert fresh > 2000
    (detail,) = reported(again)
    lost = {row.seq for row in rows} - {row.seq for row in saved}
    assert all(detail["first_seq"] <= seq <= detail["last_seq"] for seq in lost)
    again.close()


def test_damage_found_while_running_is_repaired_by_the_next_append(tmp_path):
    """The caller gets one OutboxError; then the outbox works again."""
    box = open_outbox(tmp_path)
    box.append([draft(n) for n in range(500)])
    box._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    box._db.execute("PRAGMA cache_size=0")
    path = tmp_path / "outbox.db"
    damage(path, 4096, path.stat().st_size - 4096)
    with pytest.raises(OutboxError):  # noqa: PT012 (SQLite decides which call finds the damage)
        for n in range(1000):
            box.append([draft(n)])
            box.peek(0, 1000)
    assert box.append([draft(1)])[0] > 500
    assert moved_aside(tmp_path)
    box.close()


def test_database_deleted_by_hand_does_not_repeat_numbers(tmp_path):
    """The side file remembers which numbers may have been used."""
    box = open_outbox(tmp_path)
    box.append([draft(n) for n in range(15)])
    box.close()
    for path in tmp_path.glob("outbox.db*"):
        if path.suffix != ".seq":
            path.unlink()
    again = open_outbox(tmp_path)
    assert again.append([draft(1)])[0] > 15
    again.close()


def test_power_cut_without_sync_does_not_repeat_numbers(tmp_path):
    """With durability normal, another boot after an unclean end skips the numbers that may have been sent."""
    box = open_outbox(tmp_path, durability="normal", boot="first boot")
    box.append([draft(1)])
    box._db.close()  # an unclean end
    again = open_reporting(tmp_path, boot="second boot")
    (seq,) = again.append([draft(2)])
    assert seq > SEQ_BLOCK
    assert reported(again)[0]["cause"] == "power"
    again.close()
    third = open_outbox(tmp_path, boot="second boot")
    assert third.append([draft(3)]) == (seq + 2,)  # one number for the report of the loss
    third.close()


def test_newer_format_is_refused(tmp_path):
    """The outbox does not touch a database of a later version."""
    db = sqlite3.connect(tmp_path / "outbox.db")
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(OutboxError, match="newer defectd"):
        open_outbox(tmp_path)


def test_state_directory_that_cannot_be_created_is_an_outbox_error(tmp_path):
    """A file in place of the directory: one error that names it."""
    (tmp_path / "state").write_text("")
    with pytest.raises(OutboxError, match="state"):
        open_outbox(tmp_path / "state")
